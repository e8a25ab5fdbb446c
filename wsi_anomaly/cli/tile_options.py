"""Options of ``wsi-anomaly tile``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from wsi_anomaly.cli.common import backend_option, mpp_csv_option

F = TypeVar("F", bound=Callable[..., Any])


def _magnifications(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(int(part.strip().rstrip("xX")) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter("give magnifications such as 10,20,40") from error


_PATH = click.Path(path_type=Path)

_OPTIONS = (
    click.option(
        "-o",
        "--output",
        type=_PATH,
        default=Path("tiles"),
        show_default=True,
        help="Folder of tile files.",
    ),
    click.option(
        "--magnifications",
        default="10,20,40",
        show_default=True,
        callback=_magnifications,
        help="Copies of each field to store: 10x = 1, 20x = 0.5, 40x = 0.25 um per pixel.",
    ),
    click.option(
        "--tile-size",
        type=int,
        default=64,
        show_default=True,
        help="Side of a field: pixels at 10x, which is micrometres.",
    ),
    click.option(
        "--stride",
        type=int,
        help="From one field to the next, pixels at 10x; less than --tile-size overlaps.  "
        "[default: --tile-size]",
    ),
    click.option(
        "--max-tiles",
        type=click.IntRange(min=0),
        default=2000,
        show_default=True,
        help="Fields a slide, drawn at random (always the same ones); 0: all.",
    ),
    click.option(
        "--min-tissue",
        type=float,
        default=0.5,
        show_default=True,
        help="Least share of tissue in a field.",
    ),
    click.option(
        "--preset",
        type=click.Choice(["camelyon16"]),
        help="A published geometry. camelyon16: fields of 768 px at 40x (384 at 20x, 192 at 10x), "
        "all tissue, at most 50 a slide. Options that are given beside it win.",
    ),
    click.option(
        "--stain",
        type=click.Choice(["vahadane", "macenko", "none"]),
        default="vahadane",
        show_default=True,
        help="Stain normalisation, fitted once per slide.",
    ),
    click.option(
        "--target",
        type=_PATH,
        help="Image of H&E to whose stains all slides are brought.  [default: a target that ships "
        "with wsi-anomaly]",
    ),
    click.option(
        "--per-tile",
        is_flag=True,
        help="Fit the stains of every tile by itself, as the published experiments did (slow).",
    ),
    click.option(
        "--match/--no-match",
        default=True,
        show_default=True,
        help="Also bring the strength of the stains (99th percentile) to the target's, or only "
        "their colour, as the published experiments did.",
    ),
    click.option(
        "--stain-engine",
        type=click.Choice(["native", "staintools"]),
        default="native",
        show_default=True,
        help="staintools: StainTools' own fit and transform, to compare with (slow; an extra).",
    ),
    click.option(
        "--tissue-mask",
        type=_PATH,
        help="Where the tissue is, instead of finding it: QuPath GeoJSON, or a mask image over the "
        "scanned area; for several slides a folder of files named as the slides.",
    ),
    click.option(
        "--annotations",
        type=_PATH,
        help="Cut only inside these annotations: QuPath GeoJSON, ASAP or Camelyon XML, or a mask "
        "image; for several slides a folder of files named as the slides.",
    ),
    click.option(
        "--label",
        multiple=True,
        help="Class of the annotations to cut; may be repeated. It also names annotations that "
        "have no class.  [default: all classes]",
    ),
    click.option(
        "--mpp", type=float, help="Micrometres per pixel of all these slides, over what they say."
    ),
    mpp_csv_option,
    click.option(
        "--cases",
        type=_PATH,
        help="Lines of slide,case: slides of one patient or animal are never split between "
        "training and calibration. Without it every slide is a case of its own.",
    ),
    backend_option,
    click.option("--seed", type=int, default=0, show_default=True, help="Draws the fields."),
    click.option(
        "--workers", type=click.IntRange(min=1), help="Processes.  [default: one for each core]"
    ),
    click.option(
        "--dask",
        metavar="ADDRESS",
        help="Work on a Dask cluster whose machines see the same files, such as tcp://host:8786.",
    ),
    click.option(
        "--shard",
        metavar="I/N",
        help="Only the I-th of N shares of the slides, for job arrays; 'slurm' takes both from "
        "SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT.",
    ),
    click.option(
        "--resume/--overwrite",
        default=True,
        show_default=True,
        help="Keep tile files that are whole and were made the same way, or make all anew.",
    ),
)


def tile_options(function: F) -> F:
    """Add them all, in the order in which ``--help`` shows them."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
