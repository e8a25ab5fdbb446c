"""Tiles of drawn slides whose lesions are known, at all three difficulties.

The unseen normal slides and those of medium difficulty are the demo's; the easy and the hard ones
have the same seeds as the medium ones, so the tissue is the same and only the lesions differ. The
normal slides to learn from are those of the first measurement, whatever the demo has now.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.annotations import fractions_inside, read_geojson
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.magnification import mpp_of
from wsi_anomaly.demo.slides import (
    SLIDES,
    DemoSlide,
    make_slides,
    outlines_path,
    slide_path,
)
from wsi_anomaly.evaluation import ABNORMAL, IGNORED, label_fields
from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.synthetic.lesions import Difficulty
from wsi_anomaly.tiles import Preprocessing, Status, plan_fields, read_fields

DIFFICULTIES: tuple[Difficulty, ...] = get_args(Difficulty)
LEARNED = tuple(
    DemoSlide("learned", f"learned_{i:02d}", 100 + i, None, i % 2, size_px=(2000, 2000))
    for i in range(1, 17)
)
LEARN, UNSEEN_NORMAL, FIRST_DIFFICULTY = 0, 1, 2
"""``part`` of a tile: of a normal slide to learn from, of another one, of a lesion slide."""

_FIELD_UM = 64
_MAGNIFICATIONS = {64: 10, 128: 20}


def graded_slides() -> list[tuple[DemoSlide, int]]:
    """Give the slides with the ``part`` that each belongs to."""
    unseen = [slide for slide in SLIDES if slide.folder == "new"]
    found = [(slide, LEARN) for slide in LEARNED]
    found += [(slide, UNSEEN_NORMAL) for slide in unseen if slide.lesions is None]
    for slide in unseen:
        if slide.lesions is not None:
            for i, difficulty in enumerate(DIFFICULTIES):
                other = replace(
                    slide, folder="graded", name=f"{slide.name}_{difficulty}", lesions=difficulty
                )
                found.append(
                    (slide if difficulty == slide.lesions else other, FIRST_DIFFICULTY + i)
                )
    return found


def drawn_tiles(
    folder: Path, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.intp], NDArray[np.intp]]:
    """Read all tissue of the slides, normalised as ``tile`` does; draw the slides that are missing.

    Tiles on the border of a lesion are left out.

    Parameters
    ----------
    folder
        That of ``wsi-anomaly demo``, or a new one.
    size
        64 (10x) or 128 (20x): fields of 64 um.

    Returns
    -------
    tiles (N, size, size, 3), abnormal (N,), number of the slide (N,), part (N,)
    """
    if size not in _MAGNIFICATIONS:
        raise UsageError(f"Tiles of the drawn slides have 64 or 128 px, not {size}.")
    slides = graded_slides()
    for _ in make_slides([slide for slide, _ in slides], folder, workers=1):
        pass
    found = [_read(folder, slide, size) for slide, _ in slides]
    counts = [len(labels) for _, labels in found]
    return (
        np.concatenate([tiles for tiles, _ in found]),
        np.concatenate([labels for _, labels in found]) == ABNORMAL,
        np.repeat(np.arange(len(slides)), counts),
        np.repeat([part for _, part in slides], counts).astype(np.intp),
    )


def _read(folder: Path, slide: DemoSlide, size: int) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """Tiles of a slide that are surely normal or surely not, and which they are."""
    with open_slide(slide_path(folder, slide)) as opened:
        tissue = find_tissue(opened)
        fields = plan_fields(opened, tissue, field_um=_FIELD_UM)
        outlines = read_geojson(outlines_path(folder, slide)) if slide.lesions else []
        side = (_FIELD_UM / opened.mpp.x, _FIELD_UM / opened.mpp.y)
        labels = label_fields(fractions_inside(outlines, fields.coords, side))
        magnification = _MAGNIFICATIONS[size]
        assert mpp_of(magnification) * size == _FIELD_UM
        kept, which = [], []
        for indices, images, status in read_fields(
            opened,
            fields,
            magnification=magnification,
            tile_size=size,
            preprocess=Preprocessing().for_slide(opened, tissue),
        ):
            good = (status == Status.OK) & (labels[indices] != IGNORED)
            kept.append(images[good])
            which.append(labels[indices][good])
    return np.concatenate(kept), np.concatenate(which)
