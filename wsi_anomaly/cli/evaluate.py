"""``wsi-anomaly evaluate``: results of ``score`` against known truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsi_anomaly.cli.common import common_options, console

if TYPE_CHECKING:
    from rich.console import Console

    from wsi_anomaly.evaluation.run import Evaluation


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("results", required=False, type=click.Path(path_type=Path))
@click.option(
    "--annotations",
    type=click.Path(path_type=Path),
    help="Outlines of what is abnormal (QuPath GeoJSON, ASAP or Camelyon XML) or mask images: a "
    "folder of files named as the slides, or the file of a single slide.",
)
@click.option(
    "--class",
    "classes",
    multiple=True,
    metavar="NAME",
    help="Class of outlines that is abnormal; may be repeated.  [default: every outline]",
)
@click.option(
    "--unannotated-normal",
    is_flag=True,
    help="Slides without an annotation file are normal.  [default: they are left out]",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="The columns slide,label (normal or abnormal, 0 or 1), or slide,x,y,label for fields; "
    "Camelyon's reference.csv works too.",
)
@click.option(
    "--scores",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Instead of RESULTS: scores from anywhere, with the columns score, label and slide.",
)
@click.option(
    "--cases",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Lines of slide,case: intervals resample cases.  [default: every slide is a case]",
)
@click.option(
    "--method",
    metavar="NAME",
    help="The method whose curves, slides and lesions are shown.  [default: the one that ranks]",
)
@click.option(
    "--specificity",
    "specificities",
    type=click.FloatRange(0.0, 1.0),
    multiple=True,
    default=(0.9, 0.95, 0.99),
    show_default=True,
    help="Specificity at which the sensitivity is asked for; may be repeated.",
)
@click.option(
    "--slides",
    type=click.Path(path_type=Path, exists=True),
    help="Folder in which the slides lie now, if they are not where they were scored.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("evaluation"),
    show_default=True,
    help="Folder for evaluation.html and evaluation.json.",
)
@common_options
def command(
    *,
    results: Path | None,
    annotations: Path | None,
    classes: tuple[str, ...],
    unannotated_normal: bool,
    labels: Path | None,
    scores: Path | None,
    cases: Path | None,
    method: str | None,
    specificities: tuple[float, ...],
    slides: Path | None,
    output: Path,
    verbosity: int = 0,
) -> int:
    r"""Compare results with what is known to be abnormal.

    RESULTS is the folder that score has written (default: results/). Give outlines of the lesions,
    labels of slides, or labels of fields. Figures: ROC AUC, PR AUC and sensitivity at fixed
    specificities of fields, raw and over 3 x 3 fields; the same of slides; FROC of lesions; mean
    colour alone as a control. Intervals come from resampling slides or cases, never fields. The
    report shows the curves, every slide, and the fields that are missed or falsely high.

    A field is abnormal where outlines cover at least half of it, normal where none touches it;
    others are left out. An annotation file without outlines says that its slide is normal. Slides
    that the model has seen are left out.

    \b
    Examples:
      wsi-anomaly evaluate results/ --annotations outlines/
      wsi-anomaly evaluate results/ --annotations xml/ --labels reference.csv -o evaluation
      wsi-anomaly evaluate results/ --labels slides.csv --cases animals.csv
      wsi-anomaly evaluate --scores scores.csv

    \b
    Exit code: 0 done; 1 something could not be used, the figures are of the rest; 2 wrong usage;
    130 interrupted.
    """
    from wsi_anomaly.core.errors import UsageError
    from wsi_anomaly.evaluation.report import write_evaluation
    from wsi_anomaly.evaluation.run import evaluate_results, evaluate_scores

    out = console(verbosity)
    if scores is not None:
        if results or labels or annotations or classes or unannotated_normal or cases or method:
            raise UsageError(
                "--scores brings its own labels; leave out RESULTS and the options about them."
            )
        evaluation = evaluate_scores(scores, specificities=specificities)
    else:
        with out.status("reading results") as status:
            evaluation = evaluate_results(
                results or Path("results"),
                labels=labels,
                annotations=annotations,
                classes=classes,
                unannotated_normal=unannotated_normal,
                cases=cases,
                slides=slides,
                method=method,
                specificities=specificities,
                watch=lambda text: status.update(_plain(text)),
            )
    page = write_evaluation(output, evaluation)
    _show(evaluation, out)
    out.print(f"Open {page}", markup=False, soft_wrap=True)
    return 1 if evaluation.problems else 0


def _plain(text: str) -> str:
    """Keep names of slides from being read as markup."""
    from rich.markup import escape

    return escape(text)


def _show(evaluation: Evaluation, out: Console) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from wsi_anomaly.evaluation.report import figure_lines

    figures = evaluation.figures
    for title, lines in (
        (f"{evaluation.noun.capitalize()}s", figure_lines(figures)),
        ("Slides", list(figures.slides.items())),
    ):
        if not lines:
            continue
        first = lines[0][1]
        table = Table(
            title=f"{title}: {first.abnormal:,} abnormal, {first.normal:,} normal",
            title_justify="left",
            box=SIMPLE_HEAD,
        )
        table.add_column("Score", no_wrap=True)
        table.add_column("ROC AUC", justify="right", no_wrap=True)
        table.add_column("PR AUC", justify="right")
        for s in first.sensitivity:
            table.add_column(f"sens. at {100 * s:g}%", justify="right")
        for name, found in lines:
            values = (found.pr_auc, *found.sensitivity.values())
            table.add_row(Text(name), str(found.roc_auc), *(f"{e.value:.3f}" for e in values))
        chance = (first.prevalence, *(1 - s for s in first.sensitivity))
        table.add_row("chance", "0.500", *(f"{v:.3f}" for v in chance), style="dim")
        out.print(table)
    for kind, (estimate, count) in figures.macro.items():
        if count:
            out.print(f"Mean ROC AUC within slides of both classes ({count}), {kind}: {estimate}")
    if figures.froc is not None:
        out.print(
            f"FROC ({figures.froc.lesions} lesions), mean sensitivity: {figures.froc.mean}; "
            + ", ".join(f"{e.value:.2f} at {k:g}" for k, e in figures.froc.at.items())
            + " false positives a slide",
            soft_wrap=True,
        )
    for sentence in evaluation.notes:
        out.print(f"Note: {sentence}", style="yellow", markup=False, soft_wrap=True)
    for sentence in evaluation.problems:
        out.print(f"Not used: {sentence}", style="red", markup=False, soft_wrap=True)
