"""``wsi-anomaly evaluate``: results of ``score`` against known truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from wsi_anomaly.cli.common import PATH, common_options, console, option_of, output_option, say
from wsi_anomaly.options import EvaluateKeywords, EvaluateOptions

if TYPE_CHECKING:
    from rich.console import Console

    from wsi_anomaly.evaluation.run import Evaluation

option = option_of(EvaluateOptions)


@click.command()
@click.argument("results", required=False, type=PATH)
@option(
    "--annotations",
    type=PATH,
    help="Outlines of what is abnormal (QuPath GeoJSON, ASAP or Camelyon XML) or mask images: a "
    "folder of files named as the slides, or the file of a single slide.",
)
@option(
    "--class",
    "classes",
    multiple=True,
    metavar="NAME",
    help="Class of outlines that is abnormal; may be repeated.  [default: every outline but those "
    "of the class normal]",
)
@option(
    "--unannotated-normal",
    is_flag=True,
    help="Slides without an annotation file are normal.  [default: they are left out]",
)
@option(
    "--labels",
    type=PATH,
    metavar="CSV",
    help="The columns slide,label (normal or abnormal, 0 or 1), or slide,x,y,label for fields; "
    "Camelyon's reference.csv works too.",
)
@option(
    "--scores",
    type=PATH,
    metavar="CSV",
    help="Instead of RESULTS: scores from anywhere, with the columns score, label and slide.",
)
@option(
    "--cases",
    type=PATH,
    metavar="CSV",
    help="Lines of slide,case: intervals are over cases.  [default: every slide is a case]",
)
@option(
    "--method",
    metavar="NAME",
    help="The method whose curves, slides and lesions are shown.  [default: the one that ranks]",
)
@option(
    "--specificity",
    "specificities",
    type=click.FloatRange(0.0, 1.0),
    multiple=True,
    show_default=True,
    help="Specificity at which the sensitivity is asked for; may be repeated.",
)
@option(
    "--slides",
    type=click.Path(path_type=Path, exists=True),
    help="Folder in which the slides lie now, if they are not where they were scored.",
)
@output_option("evaluation", "Folder for evaluation.html and evaluation.json.")
@common_options
def command(
    *,
    results: Path | None,
    output: Path,
    verbosity: int = 0,
    **flags: Unpack[EvaluateKeywords],
) -> int:
    r"""Compare results with what is known to be abnormal.

    RESULTS is the folder that score has written (default: results/). Give outlines of the lesions,
    labels of slides, or labels of fields. Figures: ROC AUC, PR AUC and sensitivity at fixed
    specificities of fields, raw and over 3 x 3 fields; the same of slides; FROC of lesions; mean
    colour alone as a control. Intervals come from leaving out slides or cases, never fields. The
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
    from wsi_anomaly import api
    from wsi_anomaly.evaluation.report import HTML_NAME

    out = console(verbosity)
    with out.status("reading results") as status:
        evaluation = api.evaluate(
            results,
            output,
            options=EvaluateOptions(**flags),
            watch=lambda text: status.update(_plain(text)),
        )
    _show(evaluation, out)
    say(out, f"Open {output / HTML_NAME}")
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
        say(out, f"Note: {sentence}", "yellow")
    for sentence in evaluation.problems:
        say(out, f"Not used: {sentence}", "red")
