"""``wsi-anomaly preview``: a contact sheet of tile files."""

from __future__ import annotations

from pathlib import Path

import click

from wsi_anomaly.cli.common import PATH, common_options, console, say

SHEET_SUFFIX = ".sheet.png"


@click.command()
@click.argument("tiles", nargs=-1, required=True, type=PATH)
@click.option(
    "-o",
    "--output",
    type=PATH,
    help="The PNG to write; for several tile files a folder.  [default: <slide>.sheet.png beside "
    "the tile file]",
)
@common_options
def command(*, tiles: tuple[Path, ...], output: Path | None, verbosity: int = 0) -> int:
    r"""Draw a contact sheet of a tile file: a dozen of its fields.

    TILES are tile files, or folders of them. Each field is shown before normalisation (read from
    the slide) and after it, and at each magnification that is stored; below stand some fields
    that are not usable, with the reason.

    \b
    Examples:
      wsi-anomaly preview tiles/scan.h5
      wsi-anomaly preview tiles/ -o sheets/
    """
    from wsi_anomaly.core.errors import OutputError, UsageError, WsiAnomalyError
    from wsi_anomaly.tiles import TileStore, find_tile_files
    from wsi_anomaly.tiles.contact_sheet import contact_sheet
    from wsi_anomaly.tiles.picture import save_picture

    files = find_tile_files(tiles)
    if output is not None and len(files) > 1 and (output.is_file() or output.suffix):
        raise UsageError(f"{output} is one file for {len(files)} contact sheets; give a folder.")
    out = console(verbosity)
    errors = []
    for file in files:
        try:
            sheet, note = contact_sheet(TileStore.open(file))
            place = _place(file, output, single=len(files) == 1)
            save_picture(place, sheet)
        except WsiAnomalyError as error:
            if isinstance(error, OutputError) and error.for_all:
                raise  # the next one would not find room either
            errors.append(str(error))
            continue
        text = f"{file.name} -> {place}"
        say(out, text + (f" (without 'before': {note})" if note else ""))
    for text in errors:
        click.echo(f"Error: {text}", err=True)
    return 1 if errors else 0


def _place(file: Path, output: Path | None, *, single: bool) -> Path:
    name = f"{file.stem}{SHEET_SUFFIX}"
    if output is None:
        return file.with_name(name)
    if single and not output.is_dir() and output.suffix:
        return output
    return output / name
