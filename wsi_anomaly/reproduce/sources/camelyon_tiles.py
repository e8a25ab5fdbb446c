"""Tiles of Camelyon16: by the authors' rules, or at the very places of their lists."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_anomaly.core.errors import UsageError, WsiAnomalyError
from wsi_anomaly.core.files import atomic_file, config_hash, make_folder
from wsi_anomaly.core.wording import counted
from wsi_anomaly.reproduce.sources.camelyon_files import (
    LABEL,
    SIDES,
    STAIN_TARGET,
    Challenge,
    Side,
)
from wsi_anomaly.reproduce.sources.lists import read_list
from wsi_anomaly.slides import find_tissue, open_slide, read_squares
from wsi_anomaly.tiles import PRESETS, Status, TileConfig, TileStore
from wsi_anomaly.tiles.jobs import Job
from wsi_anomaly.tiles.target import read_target
from wsi_anomaly.tiles.tiling import TileOutcome, tile_slides

SIDE_PX = int(PRESETS["camelyon16"]["tile_size"])
"""Side of a tile at 10x: 768 px at 40x."""

MAGNIFICATION = 10
_LEVEL0_PX = 768
# Region of the target slide whose stains all tiles get, level-0 pixels: column, row, side.
_TARGET_REGION = (23_808, 120_832, 2_816)
_INSIDE_NONE = "lies inside the annotations"
_LISTED = re.compile(
    r"(?P<slide>(?:normal|tumor|test)_\d+)_(?:normal|tumor)_x_(?P<row>\d+)_y_(?P<column>\d+)_w_"
    rf"{_LEVEL0_PX}_h_{_LEVEL0_PX}"
)


@dataclass
class SideTiles:
    """Tiles of one side.

    Attributes
    ----------
    images
        (N, 192, 192, 3) uint8.
    group
        (N,) number of the slide among all slides.
    """

    images: NDArray[np.uint8]
    group: NDArray[np.intp]

    @property
    def slides(self) -> int:
        """Number of slides that gave tiles."""
        return len(np.unique(self.group))


@dataclass
class How:
    """What a reader must know of the tiles, and what went wrong."""

    notes: tuple[str, ...] = ()
    errors: list[str] = field(default_factory=list)


def tile_config(challenge: Challenge, output: Path) -> tuple[TileConfig, str]:
    """Give the published settings, and a sentence about the stain target."""
    target, note = None, ""
    slide_path = challenge.every.get(STAIN_TARGET)
    if slide_path is not None:
        path = output / "target.png"
        column, row, side = _TARGET_REGION
        with open_slide(slide_path) as slide:
            fits = column + side <= slide.width and row + side <= slide.height
            if fits:
                pixels = slide.read(column, row, (side, side), slide.mpp.x).rgb
                with atomic_file(path) as partial:
                    Image.fromarray(pixels).save(partial, format="png")
                target = read_target(path, "vahadane")
                note = f"Stain target: the published region of {STAIN_TARGET}."
    if target is None:
        note = (
            f"Stain target: the one that ships with wsi-anomaly; the published one is a region of "
            f"{STAIN_TARGET}, which is not there."
        )
    config = TileConfig(
        magnifications=(MAGNIFICATION,),
        target=target,
        per_tile=True,
        match_maxima=False,
        **PRESETS["camelyon16"],
    )
    return config, note


def room_for_tiles(challenge: Challenge, output: Path) -> str:
    """Say what the tiles take at most, and what is free.

    Raises
    ------
    UsageError
        Less is free than they take.
    """
    slides = sum(map(len, challenge.slides.values()))
    most = slides * int(PRESETS["camelyon16"]["max_tiles"]) * SIDE_PX**2 * 3
    there = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    free = shutil.disk_usage(output).free
    if max(0, most - there) > free:
        raise UsageError(
            f"The tiles of {slides} slides take up to {most / 1e9:.1f} GB, and {free / 1e9:.1f} GB "
            f"are free in {output}; free some, or give another folder with -o."
        )
    return (
        f"Tiles of {slides} slides: at most {most / 1e9:.1f} GB in {output}, where "
        f"{free / 1e9:,.0f} GB are free."
    )


def tile_sides(
    challenge: Challenge,
    output: Path,
    workers: int,
    progress: Callable[[TileOutcome], None] | None,
) -> tuple[dict[Side, SideTiles], How]:
    """Cut all slides as ``wsi-anomaly tile --preset camelyon16`` does; finished ones are kept."""
    config, note = tile_config(challenge, output)
    numbers = {name: k for k, name in enumerate(sorted(challenge.every))}
    found: dict[Side, SideTiles] = {}
    errors: list[str] = []
    without = 0
    for kind in ("normal", "anomaly"):
        folder = make_folder(output / "tiles" / kind)
        tumour = kind == "anomaly"
        settings = replace(config, labels=(LABEL,)) if tumour else config
        sides = [side for side in SIDES if side.kind == kind]
        jobs = [
            Job(path, path.stem, annotations=challenge.annotations if tumour else None)
            for side in sides
            for path in challenge.slides[side]
        ]
        with closing(tile_slides(jobs, folder, settings, workers=workers)) as outcomes:
            for outcome in outcomes:
                if progress is not None:
                    progress(outcome)
                if tumour and _INSIDE_NONE in outcome.error:
                    without += 1
                elif outcome.error:
                    errors.append(outcome.error)
        for side in sides:
            found[side] = _stored(folder, challenge.slides[side], numbers, settings.hash)
    notes = (
        (
            "Tiles: our own, by the published rules (768 px at 40x, all tissue, at most 50 a "
            "slide), with our tissue map and Vahadane tile by tile at 10x. Sides: the challenge's."
        ),
        note,
        f"Without a tile wholly inside their annotations: {counted(without, 'tumour slide')}.",
    )
    return found, How(notes, errors)


def _stored(folder: Path, slides: list[Path], numbers: dict[str, int], mark: str) -> SideTiles:
    images, group = [], []
    for slide in slides:
        path = folder / f"{slide.stem}.h5"
        if not path.is_file():
            continue
        store = TileStore.open(path)
        if store.config_hash != mark:  # of a former run with another target
            continue
        good = np.flatnonzero(store.status == Status.OK)
        images.append(store.images(MAGNIFICATION, good))
        group += [numbers[slide.stem]] * len(good)
    return _side(images, group)


def _side(images: list[NDArray[np.uint8]], group: list[int]) -> SideTiles:
    whole = [i for i in images if len(i)]
    return SideTiles(
        np.concatenate(whole) if whole else np.empty((0, SIDE_PX, SIDE_PX, 3), np.uint8),
        np.array(group, np.intp),
    )


def listed_tiles(
    challenge: Challenge, output: Path, lists: Path
) -> tuple[dict[Side, SideTiles], How]:
    """Read the very tiles of the authors' lists.

    In their names ``x`` is the row and ``y`` the column of the upper left corner at level 0.
    """
    config, note = tile_config(challenge, output)
    numbers = {name: k for k, name in enumerate(sorted(challenge.every))}
    folder = make_folder(output / "listed" / config.hash[:8])
    found: dict[Side, SideTiles] = {}
    errors: list[str] = []
    absent: set[str] = set()
    for side in SIDES:
        corners: dict[str, list[tuple[int, int]]] = {}
        for line in read_list(lists, "healthy", side.kind, side.part):
            match = _LISTED.match(line)
            if match is None:
                raise UsageError(
                    f"{lists / 'healthy' / side.kind / side.part} has a line that names no tile: "
                    f"{line!r}; copy the authors' lists again."
                )
            corners.setdefault(match["slide"], []).append((int(match["column"]), int(match["row"])))
        images, group = [], []
        for name, places in sorted(corners.items()):
            if name not in challenge.every:
                absent.add(name)
                continue
            try:
                part = _read_listed(challenge.every[name], np.array(places), config, folder, side)
            except WsiAnomalyError as error:
                errors.append(str(error))
                continue
            images.append(part)
            group += [numbers[name]] * len(part)
        found[side] = _side(images, group)
    notes: tuple[str, ...] = (
        "Tiles: the very ones of the authors' lists, Vahadane tile by tile at 10x.",
        note,
    )
    if absent:
        notes += (f"Of the lists {counted(len(absent), 'slide')} not there.",)
    return found, How(notes, errors)


def _read_listed(
    path: Path, corners: NDArray[np.int64], config: TileConfig, folder: Path, side: Side
) -> NDArray[np.uint8]:
    """Read tiles at level-0 corners (n, 2) as (x, y); kept in a file of their own."""
    mark = config_hash({"corners": corners.tolist()})[:8]
    kept = folder / f"{path.stem}_{str(side).replace(' ', '_')}_{mark}.npy"
    if kept.is_file():
        found: NDArray[np.uint8] = np.load(kept, allow_pickle=False)
        return found
    with open_slide(path) as slide:
        outside = (corners + _LEVEL0_PX > (slide.width, slide.height)).any(1)
        if outside.any():
            raise UsageError(
                f"{path} is smaller than a tile of the lists wants; check that it is the original."
            )
        squares = read_squares(slide, corners, SIDE_PX, slide.mpp.x * _LEVEL0_PX / SIDE_PX)
        preprocess = config.preprocessing.for_slide(slide, find_tissue(slide))
        images = preprocess(squares.rgb)
    with atomic_file(kept) as partial, open(partial, "wb") as file:
        np.save(file, images)
    return images
