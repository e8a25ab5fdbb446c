"""``wsi-anomaly review``: what readers have decided; decisions made in QuPath taken in."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsi_anomaly.cli.common import PATH, common_options, console, noting, say
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.wording import counted

if TYPE_CHECKING:
    from rich.console import Console


@click.command()
@click.argument("results", type=PATH, default=Path("results"))
@click.option(
    "--from-qupath",
    metavar="PROJECT",
    type=click.Path(path_type=Path, exists=True),
    help="Take the reviews that the script of this QuPath project has exported.",
)
@click.option("--reader", metavar="NAME", help="Who made them; needed with --from-qupath.")
@click.option(
    "--outlines",
    metavar="FOLDER",
    type=PATH,
    help="Write what the readers agree on there, a GeoJSON file for each slide, labelled Abnormal, "
    "Normal variant or Artefact: for tile --annotations, and so for tune and fusion.",
)
@common_options
def command(
    *,
    results: Path,
    from_qupath: Path | None,
    reader: str | None,
    outlines: Path | None,
    verbosity: int = 0,
) -> int:
    r"""Show how far the review of results is, and take in what was reviewed in QuPath.

    RESULTS is the folder that score has written (default: results/). A line for each reader says
    how many flagged regions are reviewed and what was found; one for each two readers, how often
    they agree on the same places, with Cohen's kappa. Reviews are made with 'wsi-anomaly view
    --reader', or in the project that 'wsi-anomaly qupath' makes.

    \b
    Examples:
      wsi-anomaly review results/
      wsi-anomaly review results/ --from-qupath project/ --reader ann
      wsi-anomaly review results/ --outlines known/
      wsi-anomaly tile slides/ --annotations known/ --label Abnormal -o few
    """
    out = console(verbosity)
    if (from_qupath is None) != (reader is None):
        raise UsageError("--from-qupath and --reader go together: a project, and who reviewed it.")
    code = 0
    if from_qupath is not None and reader is not None:
        from wsi_anomaly.results.qupath_reviews import take_reviews

        taken = take_reviews(from_qupath, results, reader)
        for problem in taken.problems:
            click.echo(f"Error: {problem}", err=True)
        say(
            out,
            f"{counted(sum(taken.added.values()), 'review')} of "
            f"{counted(len(taken.added), 'slide')} taken from {from_qupath}; "
            f"{taken.known} there already.",
        )
        code = 1 if taken.problems else 0
    _show(results, out)
    if outlines is not None:
        from wsi_anomaly.results.reviewed_outlines import write_outlines

        written = write_outlines(results, outlines, noting(out))
        say(out, f"Outlines of {counted(len(written), 'slide')} in {outlines}/")
    return code


def _show(results: Path, out: Console) -> None:
    from wsi_anomaly.results.review_matching import agreement, reviewed_regions
    from wsi_anomaly.results.reviews import VERDICTS, read_reviews
    from wsi_anomaly.results.summary import read_summary, result_names

    folders = [results / name for name in result_names(results)]
    slides = [(p, found) for p in folders if (found := read_summary(p)) is not None]
    if not slides:
        raise UsageError(
            f"{results} holds no results; give the folder that 'wsi-anomaly score' has written."
        )
    reviews = [read_reviews(results, summary["slide"]["fingerprint"]) for _, summary in slides]
    for problem in (text for one in reviews for text in one.problems):
        noting(out)(problem)
    regions = counted(sum(s["flagged"]["regions"] for _, s in slides), "region")
    readers = sorted({name for one in reviews for name in one.readers})
    if not readers:
        say(out, f"None of {regions} on {counted(len(slides), 'slide')} is reviewed.")
    for name in readers:
        done = sum(
            reviewed_regions(folder, summary, one, name)
            for (folder, summary), one in zip(slides, reviews, strict=True)
        )
        made = [review.verdict for one in reviews for review in one.of(name)]
        counts = ", ".join(f"{made.count(v)} {v}" for v in VERDICTS if v in made)
        say(out, f"{name}: {done} of {regions} reviewed; places: {counts or 'none'}")
    for first, second in combinations(readers, 2):
        both = agreement(reviews, first, second)
        if both.pairs:
            kappa = "not defined" if both.kappa is None else f"{both.kappa:.2f}"
            say(
                out,
                f"{first} and {second}: the same verdict on {both.agreed} of {len(both.pairs)} "
                f"places that both reviewed, kappa {kappa}",
            )
