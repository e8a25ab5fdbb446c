"""``wsi-anomaly export``: results as tables for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from wsi_anomaly.cli.common import PATH, common_options, console, say

_SHOWN = 10


@click.command()
@click.argument("results", type=PATH, default=Path("results"))
@click.option(
    "--to",
    "kind",
    type=click.Choice(["parquet", "csv", "anndata", "spatialdata"]),
    default="parquet",
    show_default=True,
    help="Parquet and CSV for tables, AnnData (.h5ad) for scanpy, SpatialData (.zarr, a store a "
    "slide) for LazySlide.",
)
@click.option(
    "-o", "--output", type=PATH, default=Path("exported"), show_default=True, help="Folder of them."
)
@common_options
def command(*, results: Path, kind: str, output: Path, verbosity: int = 0) -> int:
    r"""Write results as tables: a row a field, a row a region, a row a slide.

    RESULTS is the folder that score has written (default: results/). Fields have their place, raw
    score of each method, smoothed score, percentile, z, p-value, class, region and review; regions
    their area, scores, reviews and outline; slides what the worklist says. Needs
    wsi-anomaly[export].

    \b
    Examples:
      wsi-anomaly export results/
      wsi-anomaly export results/ --to anndata -o for_scanpy/
      wsi-anomaly export results/ --to spatialdata -o stores/
    """
    from wsi_anomaly.reports.worklist_rows import collect
    from wsi_anomaly.results.export import export_results

    order = [row.folder for row in collect(results) if row.folder] if results.is_dir() else []
    made = export_results(results, output, kind, order)
    for problem in made.problems:
        click.echo(f"Error: {problem}", err=True)
    out = console(verbosity)
    say(out, f"{made.slides} slides, {made.fields:,} fields, {made.regions} regions:")
    for path in made.files[:_SHOWN]:
        say(out, f"  {path}")
    if len(made.files) > _SHOWN:
        say(out, f"  and {len(made.files) - _SHOWN} more in {output}")
    return 1 if made.problems else 0
