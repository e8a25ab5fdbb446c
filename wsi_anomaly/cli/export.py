"""``wsi-anomaly export``: results as tables, models as ONNX files, for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from wsi_anomaly.cli.common import PATH, common_options, console, say
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.wording import counted

_SHOWN = 10


@click.command()
@click.argument("results", type=PATH, default=Path("results"))
@click.option(
    "--to",
    "kind",
    type=click.Choice(["parquet", "csv", "anndata", "spatialdata", "onnx"]),
    default="parquet",
    show_default=True,
    help="Parquet and CSV for tables, AnnData (.h5ad) for scanpy, SpatialData (.zarr, a store a "
    "slide) for LazySlide; ONNX of a model.",
)
@click.option(
    "-o", "--output", type=PATH, default=Path("exported"), show_default=True, help="Folder of them."
)
@click.option("--overwrite", is_flag=True, help="Replace ONNX files; tables always are replaced.")
@common_options
def command(*, results: Path, kind: str, output: Path, overwrite: bool, verbosity: int = 0) -> int:
    r"""Write results as tables: a row a field, a row a region, a row a slide.

    RESULTS is the folder that score has written (default: results/). Fields have their place, raw
    score of each method, smoothed score, percentile, z, p-value, class, region and review; regions
    their area, scores, reviews and outline; slides what the worklist says. Needs
    pip install "wsi-anomaly[export]".

    With --to onnx RESULTS is a model that ranks by density: its network and its score are written
    as ONNX files and compared with PyTorch. Needs pip install "wsi-anomaly[onnx]".

    \b
    Examples:
      wsi-anomaly export results/
      wsi-anomaly export results/ --to anndata -o for_scanpy/
      wsi-anomaly export results/ --to spatialdata -o stores/
      wsi-anomaly export model/ --to onnx
    """
    out = console(verbosity)
    if kind == "onnx":
        from wsi_anomaly.detectors.onnx_files import export_onnx

        written = export_onnx(results, output, overwrite=overwrite)
        say(out, f"Scores differ from PyTorch's by {written.difference:.1g} of normal tissue's "
                 "spread at most:")  # fmt: skip
        for path in written.files:
            say(out, f"  {path}")
        return 0
    if (results / "model.json").is_file():
        raise UsageError(f"{results} is a model; give results, or --to onnx.")
    from wsi_anomaly.reports.worklist_rows import collect
    from wsi_anomaly.results.export import export_results

    order = [row.folder for row in collect(results) if row.folder] if results.is_dir() else []
    made = export_results(results, output, kind, order)
    for problem in made.problems:
        click.echo(f"Error: {problem}", err=True)
    counts = {"slide": made.slides, "field": made.fields, "region": made.regions}
    say(out, f"{', '.join(counted(n, noun) for noun, n in counts.items())}:")
    for path in made.files[:_SHOWN]:
        say(out, f"  {path}")
    if len(made.files) > _SHOWN:
        say(out, f"  and {len(made.files) - _SHOWN} more in {output}")
    return 1 if made.problems else 0
