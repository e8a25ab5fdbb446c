"""``wsi-anomaly preview``: contact sheets of tile files, and what would be kept of slides."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsi_anomaly.cli.common import PATH, common_options, console, say, scene_option

if TYPE_CHECKING:
    from PIL.Image import Image

SHEET_SUFFIX = ".sheet.png"
RULES_SUFFIX = ".preview.png"


@click.command()
@click.argument("paths", metavar="TILES_OR_SLIDES...", nargs=-1, required=True, type=PATH)
@click.option(
    "-o",
    "--output",
    type=PATH,
    help="The PNG to write; for several a folder.  [default: <slide>.sheet.png beside the tile "
    "file, <slide>.preview.png here for a slide]",
)
@click.option(
    "--mpp",
    type=click.FloatRange(min=0.01, max=20.0),
    help="Micrometres per pixel of these slides, over what they say.",
)
@scene_option
@common_options
def command(
    *,
    paths: tuple[Path, ...],
    output: Path | None,
    mpp: float | None,
    scene: int | None,
    verbosity: int = 0,
) -> int:
    r"""Show what the rules keep of slides, or draw a contact sheet of tile files.

    Of a slide, before any tiling: its tissue, and what is dropped of it as ink, folds, blur or
    damage, with the areas. Of a tile file: a dozen of its fields, each before normalisation (read
    from the slide) and after it, at each magnification that is stored; below stand some fields
    that are not usable, with the reason. A folder is searched for tile files, else for slides.

    \b
    Examples:
      wsi-anomaly preview scan.svs
      wsi-anomaly preview tiles/scan.h5
      wsi-anomaly preview tiles/ -o sheets/
    """
    from wsi_anomaly.core.errors import OutputError, UsageError, WsiAnomalyError
    from wsi_anomaly.tiles.picture import save_picture

    jobs = _jobs(paths, mpp, scene)
    if output is not None and len(jobs) > 1 and (output.is_file() or output.suffix):
        raise UsageError(f"{output} is one file for {len(jobs)} pictures; give a folder.")
    out = console(verbosity)
    errors = []
    for file, usual, draw in jobs:
        place = _place(usual, output, single=len(jobs) == 1)
        try:
            picture, note = draw()
            save_picture(place, picture)
        except WsiAnomalyError as error:
            if isinstance(error, OutputError) and error.for_all:
                raise  # the next one would not find room either
            errors.append(str(error))
            continue
        say(out, f"{file.name} -> {place}" + (f" ({note})" if note else ""))
    for text in errors:
        click.echo(f"Error: {text}", err=True)
    return 1 if errors else 0


Draw = Callable[[], "tuple[Image, str]"]


def _jobs(
    paths: tuple[Path, ...], mpp: float | None, scene: int | None
) -> list[tuple[Path, Path, Draw]]:
    """Each file with where its picture goes by itself, and what draws it."""
    from wsi_anomaly.core.file_names import output_name
    from wsi_anomaly.slides import find_slides
    from wsi_anomaly.tiles import find_tile_files

    tiles: list[Path] = []
    slides: list[Path] = []
    for path in paths:
        has_tiles = path.suffix == ".h5" or (path.is_dir() and any(path.rglob("*.h5")))
        (tiles if has_tiles else slides).append(path)
    jobs: list[tuple[Path, Path, Draw]] = [
        (file, file.with_name(f"{file.stem}{SHEET_SUFFIX}"), partial(_sheet, file))
        for file in (find_tile_files(tiles) if tiles else ())
    ]
    taken: set[str] = set()
    for slide in find_slides(slides) if slides else ():
        name = output_name(slide)
        while name in taken:
            name += "-2"
        taken.add(name)
        place = Path(f"{name}{RULES_SUFFIX}")
        jobs.append((slide, place, partial(_rules, slide, mpp, scene)))
    return jobs


def _sheet(file: Path) -> tuple[Image, str]:
    from wsi_anomaly.tiles import TileStore
    from wsi_anomaly.tiles.contact_sheet import contact_sheet

    sheet, note = contact_sheet(TileStore.open(file))
    return sheet, f"without 'before': {note}" if note else ""


def _rules(slide: Path, mpp: float | None, scene: int | None) -> tuple[Image, str]:
    from wsi_anomaly.slides import open_slide
    from wsi_anomaly.tiles.rules_picture import rules_picture

    with open_slide(slide, mpp=mpp, scene=scene) as opened:
        picture, areas = rules_picture(opened)
    dropped = ", ".join(f"{name} {area:.2f}" for name, area in areas.items() if area)
    judged = "" if "blurred" in areas else "; too coarse to judge blur"
    return picture, f"mm2: {dropped or 'no tissue'}{judged}"


def _place(usual: Path, output: Path | None, *, single: bool) -> Path:
    if output is None:
        return usual
    if single and not output.is_dir() and output.suffix:
        return output
    return output / usual.name
