"""A new manifest: which slides lie in folders, and what their files say."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_anomaly.core.errors import MissingMppError, UsageError, WsiAnomalyError
from wsi_anomaly.core.files import write_text
from wsi_anomaly.core.remote import is_remote, url_of
from wsi_anomaly.core.tables import table_text
from wsi_anomaly.slides.listing import find_slides
from wsi_anomaly.slides.opening import open_slide

COLUMNS = ("slide", "case", "mpp", "label", "group", "mask")


@dataclass(frozen=True)
class Surveyed:
    """A manifest that was written.

    Attributes
    ----------
    path
        The table.
    slides
        How many stand in it.
    without_mpp
        Slides that do not say how large a pixel is.
    unreadable
        A sentence for each slide that cannot be opened; it stands in the table all the same.
    """

    path: Path
    slides: int
    without_mpp: tuple[str, ...]
    unreadable: tuple[str, ...]


def write_manifest(
    slides: str | Path | Sequence[str | Path],
    output: str | Path = "study.csv",
    *,
    overwrite: bool = False,
) -> Surveyed:
    """Write a table of slides with their micrometres per pixel, which the verbs take for slides.

    Parameters
    ----------
    slides
        A slide, a folder of slides, or a list of them.
    output
        The table; case, label, group and mask are left empty, since no file says them.
    overwrite
        Replace a table that is there.

    Raises
    ------
    UsageError
        There is no slide, or the table is there already or has another suffix.
    OutputError
        It cannot be written.
    """
    path = Path(output)
    if path.suffix.lower() != ".csv":
        raise UsageError(f"A manifest ends in .csv, not as {path.name}; choose another name.")
    if path.exists() and not overwrite:
        raise UsageError(
            f"{path} is there already and may hold what you wrote; choose another name with -o, or "
            "give --overwrite."
        )
    rows, without, unreadable = [], [], []
    for slide in find_slides([slides] if isinstance(slides, str | Path) else slides):
        name = _relative(slide, path)
        mpp: float | None = None
        try:
            with open_slide(slide) as opened:
                # One figure would take the place of both sides.
                mpp = opened.mpp.x if opened.mpp.x == opened.mpp.y else None
        except MissingMppError:
            without.append(name)
        except (WsiAnomalyError, OSError) as error:
            unreadable.append(str(error))
        rows.append((name, None, mpp, None, None, None))
    write_text(path, table_text(COLUMNS, rows))
    return Surveyed(path, len(rows), tuple(without), tuple(unreadable))


def _relative(slide: Path, table: Path) -> str:
    if is_remote(slide):
        return url_of(slide)
    real = slide.parent.resolve() / slide.name  # a link to a file keeps the name that it gives
    try:
        return Path(os.path.relpath(real, table.parent.resolve())).as_posix()
    except ValueError:  # on another drive
        return real.as_posix()
