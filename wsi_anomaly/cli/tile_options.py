"""Options of ``wsi-anomaly tile``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from wsi_anomaly.cli.common import (
    PATH,
    backend_option,
    cache_option,
    mpp_options,
    option_of,
    origin_option,
    output_option,
    resume_option,
    scene_option,
)
from wsi_anomaly.options import PRESETS, TileOptions
from wsi_anomaly.options.tile import COMPRESSIONS, ENGINES, STAINS

F = TypeVar("F", bound=Callable[..., Any])


def _magnifications(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(int(part.strip().rstrip("xX")) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter("give magnifications such as 10,20,40") from error


def _most(_ctx: click.Context, _param: click.Parameter, value: int) -> int | None:
    return value or None


_option = option_of(TileOptions)

_OPTIONS = (
    output_option("tiles", "Folder of tile files."),
    _option(
        "--magnifications",
        default=",".join(map(str, TileOptions.magnifications)),
        show_default=True,
        callback=_magnifications,
        help="Copies of each field to store: 10x = 1, 20x = 0.5, 40x = 0.25 um per pixel.",
    ),
    _option(
        "--tile-size",
        type=int,
        show_default=True,
        help="Side of a field: pixels at 10x, which is micrometres.",
    ),
    _option(
        "--stride",
        type=int,
        help="From one field to the next, pixels at 10x; less than --tile-size overlaps.  "
        "[default: --tile-size]",
    ),
    _option(
        "--max-tiles",
        type=click.IntRange(min=0),
        callback=_most,
        show_default=True,
        help="Fields a slide, drawn at random (always the same ones); 0: all.",
    ),
    _option(
        "--compression",
        type=click.Choice(COMPRESSIONS),
        show_default=True,
        help="jpeg: a fifth of the room, but other pixels: ranks stay, flags change.",
    ),
    _option(
        "--min-tissue",
        type=float,
        show_default=True,
        help="Least share of tissue in a field.",
    ),
    click.option(
        "--preset",
        type=click.Choice(list(PRESETS)),
        help="A published geometry. camelyon16: fields of 768 px at 40x (384 at 20x, 192 at 10x), "
        "all tissue, at most 50 a slide. Options that are given beside it win.",
    ),
    _option(
        "--stain",
        type=click.Choice(STAINS),
        show_default=True,
        help="Stain normalisation, fitted once per slide.",
    ),
    _option(
        "--target",
        type=PATH,
        help="Image of H&E to whose stains all slides are brought.  [default: a target that ships "
        "with wsi-anomaly]",
    ),
    _option(
        "--per-tile",
        is_flag=True,
        help="Fit the stains of every tile by itself, as the published experiments did (slow).",
    ),
    _option(
        "--match/--no-match",
        "match_maxima",
        show_default=True,
        help="Also bring the strength of the stains (99th percentile) to the target's, or only "
        "their colour, as the published experiments did.",
    ),
    _option(
        "--stain-engine",
        "engine",
        type=click.Choice(ENGINES),
        show_default=True,
        help="staintools: StainTools' own fit and transform, to compare with (slow; an extra).",
    ),
    _option(
        "--tissue-mask",
        type=PATH,
        help="Where the tissue is, instead of finding it: QuPath GeoJSON, or a mask image over the "
        "scanned area; for several slides a folder of files named as the slides.",
    ),
    _option(
        "--annotations",
        type=PATH,
        help="Cut only inside these annotations: QuPath GeoJSON, ASAP or Camelyon XML, or a mask "
        "image; for several slides a folder of files named as the slides.",
    ),
    _option(
        "--label",
        "labels",
        multiple=True,
        help="Class of the annotations to cut; may be repeated. It also names annotations that "
        "have no class.  [default: all classes]",
    ),
    origin_option(
        TileOptions,
        "Where QuPath's (0, 0) lies on slides with bounds, for masks and annotations that it "
        "exported.",
    ),
    mpp_options(TileOptions),
    _option(
        "--cases",
        type=PATH,
        help="Lines of slide,case: slides of one patient or animal are never split between "
        "training and calibration. Without it every slide is a case of its own.",
    ),
    backend_option(TileOptions),
    scene_option,
    _option("--seed", type=int, show_default=True, help="Draws the fields."),
    _option(
        "--workers", type=click.IntRange(min=1), help="Processes.  [default: one for each core]"
    ),
    _option(
        "--dask",
        metavar="ADDRESS",
        help="Work on a Dask cluster whose machines see the same files, such as tcp://host:8786.",
    ),
    cache_option(TileOptions),
    _option(
        "--shard",
        metavar="I/N",
        help="Only the I-th of N shares of the slides, for job arrays; 'slurm' takes both from "
        "SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT.",
    ),
    resume_option(
        TileOptions, "Keep tile files that are whole and were made the same way, or make all anew."
    ),
)


def tile_options(function: F) -> F:
    """Add them all, in the order in which ``--help`` shows them."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
