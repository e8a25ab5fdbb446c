"""Which slide becomes which tile file."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, TypeVar

from wsi_anomaly.core.errors import TileStoreError, UsageError
from wsi_anomaly.core.files import fingerprint, output_name
from wsi_anomaly.core.remote import from_anywhere
from wsi_anomaly.tiles.store import SUFFIX, TileStore

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """One slide to tile.

    Attributes
    ----------
    slide
        Its file.
    name
        Name of its tile file, without suffix; "": that of the slide.
    mpp
        Micrometres per pixel that override what the file says.
    case
        Patient or animal; None: the name stands for it.
    tissue_mask, annotations
        Files that say where the tissue is, and where to cut; or folders of files named as the
        slides.
    backend
        Reader: "auto", "openslide" or "tiff".
    """

    slide: Path
    name: str = ""
    mpp: float | None = None
    case: str | None = None
    tissue_mask: Path | None = None
    annotations: Path | None = None
    backend: str = "auto"

    def from_anywhere(self) -> Self:
        """Return the same with whole paths."""
        return replace(
            self,
            slide=from_anywhere(self.slide),
            tissue_mask=self.tissue_mask and self.tissue_mask.absolute(),
            annotations=self.annotations and self.annotations.absolute(),
        )


def plan_jobs(
    slides: Sequence[Path],
    out_dir: Path,
    *,
    mpp: float | None = None,
    mpp_of: Mapping[Path, float] | None = None,
    cases: Mapping[Path, str] | None = None,
    tissue_mask: Path | None = None,
    annotations: Path | None = None,
    backend: str = "auto",
) -> list[Job]:
    """Give every slide a tile file of its own and its options.

    A tile file bears its slide's name. Where two slides have one name, or another slide's tiles
    already stand under it, the fingerprint is added; a slide whose tiles exist keeps their name.

    Parameters
    ----------
    mpp, mpp_of
        Micrometres per pixel of every slide, and of single slides (these win).
    cases
        Case of each slide.
    tissue_mask, annotations, backend
        As in :class:`Job`.

    Raises
    ------
    UsageError
        One file is given for several slides, or it does not exist.
    """
    for option, place in (("--tissue-mask", tissue_mask), ("--annotations", annotations)):
        if place is not None and not place.exists():
            raise UsageError(f"{place} does not exist; give a file or a folder as {option}.")
        if place is not None and place.is_file() and len(slides) > 1:
            raise UsageError(
                f"{place} cannot be right for {len(slides)} slides; give {option} a folder of "
                "files named as the slides."
            )
    names = Counter(output_name(slide) for slide in slides)
    there = {file.stem for file in out_dir.glob(f"*{SUFFIX}")}
    marked = {stem[:-9] for stem in there if stem[-9:-8] == "-"}
    return [
        Job(
            slide,
            _name(
                slide,
                out_dir,
                there,
                alone=names[output_name(slide)] == 1,
                marked=output_name(slide) in marked,
            ),
            (mpp_of or {}).get(slide, mpp),
            (cases or {}).get(slide),
            tissue_mask,
            annotations,
            backend,
        )
        for slide in slides
    ]


def _name(slide: Path, out_dir: Path, there: set[str], *, alone: bool, marked: bool) -> str:
    """Name of a slide's tile file, where those of the names `there` stand."""
    name = output_name(slide)
    if alone and not marked and name not in there:
        return name
    try:
        mark = fingerprint(slide)
    except OSError:
        return name  # opening it will say what is wrong
    with_mark = f"{name}-{mark[:8]}"
    if with_mark in there:
        return with_mark
    if name in there:
        try:
            store = TileStore.open(out_dir / f"{name}{SUFFIX}")
        except TileStoreError:
            return name if alone else with_mark
        same = store.fingerprint == mark or store.slide_path == slide.resolve()
        return name if same else with_mark
    return name if alone else with_mark


def look_up(table: Mapping[str, T], slide: Path) -> T | None:
    """Find a slide's entry: under its path, its file name or its name without suffix."""
    for name in (str(slide), slide.name, slide.stem):
        if name in table:
            return table[name]
    return None


def read_mpp_csv(path: Path) -> dict[str, float]:
    """Lines of ``slide,mpp``: micrometres per pixel by slide name.

    Raises
    ------
    UsageError
        The file cannot be read or a line makes no sense.
    """
    table: dict[str, float] = {}
    for name, text in _pairs(path, "mpp"):
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0.01 <= value <= 20:
            raise UsageError(
                f"{path} gives {name} {text!r} um per pixel, which is not plausible; 40x is about "
                "0.25."
            )
        table[name] = value
    return table


def read_cases_csv(path: Path) -> dict[str, str]:
    """Lines of ``slide,case``: the patient or animal by slide name.

    Raises
    ------
    UsageError
        The file cannot be read.
    """
    return dict(_pairs(path, "case"))


def _pairs(path: Path, column: str) -> list[tuple[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(
            f"{path} cannot be read ({error}); it should hold lines of slide,{column}."
        ) from error
    rows = [row for row in rows if any(row)]
    if rows and [cell.lower() for cell in rows[0][:2]] == ["slide", column]:
        rows = rows[1:]
    for row in rows:
        if len(row) != 2 or not all(row):
            raise UsageError(f"{path} should hold lines of slide,{column}, not {','.join(row)!r}.")
    if not rows:
        raise UsageError(f"{path} is empty; it should hold lines of slide,{column}.")
    return [(row[0], row[1]) for row in rows]
