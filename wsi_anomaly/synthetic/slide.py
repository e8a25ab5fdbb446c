"""One synthetic slide: a pyramidal TIFF that looks like H&E, and the truth about it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import shapely
import tifffile
from numpy.typing import NDArray
from shapely import affinity

from wsi_anomaly.annotations import Outline, write_geojson
from wsi_anomaly.core.files import atomic_file
from wsi_anomaly.synthetic import tissue
from wsi_anomaly.synthetic.cells import KIND, NUCLEUS, Cells, H, make_cells, random_habit
from wsi_anomaly.synthetic.lesions import ATYPIA, REACTIVE, Atypia, Difficulty
from wsi_anomaly.synthetic.noise import noise_bank
from wsi_anomaly.synthetic.optics import blurred, sensed, transmitted
from wsi_anomaly.synthetic.rendering import draw_cells, tissue_concentrations
from wsi_anomaly.synthetic.stain import SlideLook, random_look
from wsi_anomaly.synthetic.tissue import Layout, make_layout

GENERATOR_VERSION = 2
"""Changes whenever the same seed gives other pixels."""

TILE = 256
_SMALLEST_LEVEL = 512
_MPP_DECIMALS = 6


@dataclass(frozen=True)
class SyntheticSlide:
    """A slide on disk and the truth about it; all coordinates are level-0 pixels.

    Attributes
    ----------
    path
        The TIFF.
    seed
        What it was made from.
    size_px
        Width and height of level 0.
    mpp
        um per level-0 pixel, exactly as in the file.
    difficulty
        Of the lesions, None for a normal slide.
    lesions, folds, pens, follicles, reactive
        Outlines labelled ``Lesion``, ``Fold``, ``Pen``, ``Follicle``, ``Reactive``.
    nuclei
        (N, 2) float64 centres x, y of all nuclei.
    stain_matrix
        (2, 3) unit rows, hematoxylin then eosin.
    """

    path: Path
    seed: int
    size_px: tuple[int, int]
    mpp: float
    difficulty: Difficulty | None
    lesions: list[Outline]
    folds: list[Outline]
    pens: list[Outline]
    follicles: list[Outline]
    reactive: list[Outline]
    nuclei: NDArray[np.float64]
    stain_matrix: NDArray[np.float64]


def make_slide(
    path: str | os.PathLike[str],
    *,
    seed: int,
    size_px: tuple[int, int] = (4096, 4096),
    mpp: float = 0.5,
    lesions: Difficulty | None = None,
    lesion_mm2: float | None = None,
    folds: int = 0,
    pens: int = 0,
    variants: int = 0,
    outlines_path: str | os.PathLike[str] | None = None,
) -> SyntheticSlide:
    """Make one slide. The same arguments give the same bytes.

    Parameters
    ----------
    path
        The TIFF to write (``.tif``); replaced when it exists.
    seed
        Chooses everything that is random.
    size_px
        Width and height of level 0.
    mpp
        um per level-0 pixel; the same seed at another mpp shows another part of other tissue.
    lesions
        Their difficulty; None for a normal slide.
    lesion_mm2
        Area of each lesion, less where tissue has no room for it; None: as the slide's size allows.
        So large are follicles and reactive glands, too.
    folds, pens
        How many of each.
    variants
        How many lymph follicles, and as many places of glands that regenerate, where tissue has
        room: harmless, and unlike the rest; the latter overlap lesions.
    outlines_path
        Write the lesions' outlines there as QuPath GeoJSON.

    Raises
    ------
    OutputError
        The file cannot be written.
    ValueError
        The size is smaller than one field of tissue, or mpp is no microscope's.
    """
    mpp = round(mpp, _MPP_DECIMALS)
    if min(size_px) * mpp < 200 or not 0.05 <= mpp <= 5:
        raise ValueError(f"a slide of {size_px} px at {mpp} um/px is too small to hold tissue")
    path = Path(path)
    rng = np.random.default_rng([GENERATOR_VERSION, seed])
    bank = noise_bank(rng)
    look, habit = random_look(rng), random_habit(rng)
    atypia = ATYPIA[lesions] if lesions else None
    size_um = (size_px[0] * mpp, size_px[1] * mpp)
    layout = make_layout(
        rng, size_um, atypia, lesion_mm2=lesion_mm2, folds=folds, pens=pens, variants=variants
    )
    cells = make_cells(rng, layout, habit, atypia)
    if atypia is None and layout.reactive:
        atypia = REACTIVE
    balance = _balance(layout, cells, bank, atypia)
    scanner = _Scanner(layout, cells, look, bank, balance, size_px, mpp)
    with atomic_file(path) as partial:
        _write_pyramid(partial, size_px, mpp, scanner.strip)
    nuclei = cells[(cells[:, KIND] == NUCLEUS) & (cells[:, H] > 0.7), :2].astype(np.float64) / mpp
    slide = SyntheticSlide(
        path=path,
        seed=seed,
        size_px=size_px,
        mpp=mpp,
        difficulty=lesions,
        **_truth(layout, size_px, mpp),
        nuclei=nuclei,
        stain_matrix=look.matrix,
    )
    if outlines_path is not None:
        write_geojson(outlines_path, slide.lesions, path.stem)
    return slide


def _truth(layout: Layout, size_px: tuple[int, int], mpp: float) -> dict[str, list[Outline]]:
    """Say what is drawn where, level-0 pixels."""
    frame = shapely.box(0, 0, *size_px)

    def outlines(label: str, polygons: list[shapely.Polygon]) -> list[Outline]:
        scaled = (affinity.scale(p, 1 / mpp, 1 / mpp, origin=(0, 0)) for p in polygons)
        clipped = (shapely.intersection(p, frame) for p in scaled)
        return [Outline(label, p) for p in clipped if not p.is_empty]

    return {
        "lesions": outlines("Lesion", layout.lesions),
        "folds": outlines("Fold", layout.folds),
        "pens": outlines("Pen", layout.pens),
        "follicles": outlines("Follicle", layout.follicles),
        "reactive": outlines("Reactive", layout.reactive),
    }


def _balance(
    layout: Layout, cells: Cells, bank: NDArray[np.float32], atypia: Atypia | None
) -> NDArray[np.float64]:
    """Factors that give lesions the slide's usual amounts of hematoxylin and eosin.

    Without them the colour alone would tell a lesion. They are measured on a scan at 2 um/px.
    """
    factors = np.ones(3)
    if atypia is None:
        return factors
    factors[2] = atypia.basophilia
    mpp = 2.0
    shape = (int(layout.size_um[1] / mpp), int(layout.size_um[0] / mpp))
    planes = np.empty((3, *shape), np.float32)
    tissue_concentrations(layout.fields, bank, 0, mpp, factors, planes)
    draw_cells(cells, bank, layout.fields, 0, mpp, factors, planes)
    field = 32  # a tile of 64 um
    rows, columns = shape[0] // field, shape[1] // field
    blocks = planes[:2, : rows * field, : columns * field]
    means = blocks.reshape(2, rows, field, columns, field).mean(axis=(2, 4)).reshape(2, -1)
    y, x = np.indices((rows, columns)).reshape(2, -1) * 64.0 + 32
    centres = np.column_stack([x, y])
    usual = (layout.at(centres, tissue.TISSUE) > 40) & (layout.at(centres, tissue.FOLD) < -40)
    lesion = usual & (layout.at(centres, tissue.LESION) > 10)
    normal = usual & (layout.at(centres, tissue.LESION) < -40)
    if lesion.sum() < 1 or normal.sum() < 1:
        return factors
    target = np.median(means[:, normal], axis=1)
    factors[:2] = np.clip(target / means[:, lesion].mean(axis=1), 0.5, 1.8)
    return factors


class _Scanner:
    """Renders strips of level 0."""

    def __init__(
        self,
        layout: Layout,
        cells: Cells,
        look: SlideLook,
        bank: NDArray[np.float32],
        balance: NDArray[np.float64],
        size_px: tuple[int, int],
        mpp: float,
    ) -> None:
        self._layout, self._cells, self._bank, self._balance = layout, cells, bank, balance
        self._look, self._width, self._mpp = look, size_px[0], mpp
        sigma = look.blur_um / mpp
        self._half = max(1, int(np.ceil(2.5 * sigma)))
        x = np.arange(-self._half, self._half + 1)
        kernel = np.exp(-0.5 * (x / sigma) ** 2)
        self._kernel = (kernel / kernel.sum()).astype(np.float32)
        self._densities = np.stack(
            [look.matrix[0] * look.hematoxylin, look.matrix[1] * look.eosin, look.ink]
        )
        grain = np.random.default_rng(len(cells)).standard_normal((509, 509))
        self._grain = grain.astype(np.float32)

    def strip(self, top: int, rows: int) -> NDArray[np.uint8]:
        """(rows, width, 3) pixels of level 0 from row `top`."""
        first = top - self._half
        planes = np.empty((3, rows + 2 * self._half, self._width), np.float32)
        tissue_concentrations(
            self._layout.fields, self._bank, first, self._mpp, self._balance, planes
        )
        reach = 40.0
        y = self._cells[:, 1]
        near = (y > first * self._mpp - reach) & (y < (first + planes.shape[1]) * self._mpp + reach)
        draw_cells(
            self._cells[near], self._bank, self._layout.fields, first, self._mpp,
            self._balance, planes,
        )  # fmt: skip
        image = np.empty((*planes.shape[1:], 3), np.float32)
        transmitted(planes, self._densities, self._look.white.astype(np.float32), image)
        soft = np.empty((rows, self._width, 3), np.float32)
        blurred(image, self._kernel, soft)
        pixels = np.empty(soft.shape, np.uint8)
        sensed(soft, self._grain, top, self._look.noise, pixels)
        return pixels


def _halved(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Every second pixel, the mean of 2 x 2; an odd edge is repeated."""
    if image.shape[0] % 2 or image.shape[1] % 2:
        pad = ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0))
        image = np.pad(image, pad, mode="edge")
    wide = image.astype(np.uint16)
    total = wide[0::2, 0::2] + wide[1::2, 0::2] + wide[0::2, 1::2] + wide[1::2, 1::2]
    return ((total + 2) >> 2).astype(np.uint8)


def _tiles(image: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for y in range(0, image.shape[0], TILE):
        for x in range(0, image.shape[1], TILE):
            part = image[y : y + TILE, x : x + TILE]
            pad = ((0, TILE - part.shape[0]), (0, TILE - part.shape[1]), (0, 0))
            yield np.ascontiguousarray(np.pad(part, pad, mode="edge"))


def _write_pyramid(
    path: Path,
    size_px: tuple[int, int],
    mpp: float,
    strip: Callable[[int, int], NDArray[np.uint8]],
) -> None:
    """Write level 0 strip by strip while the next level fills; then the levels below it."""
    width, height = size_px
    smaller = np.empty(((height + 1) // 2, (width + 1) // 2, 3), np.uint8)

    def level0() -> Iterator[NDArray[np.uint8]]:
        for top in range(0, height, TILE):
            pixels = strip(top, min(TILE, height - top))
            half = _halved(pixels)
            smaller[top // 2 : top // 2 + len(half)] = half
            yield from _tiles(pixels)

    with tifffile.TiffWriter(path) as writer:
        _write_level(writer, level0(), (height, width), mpp, reduced=False)
        level, scale = smaller, 2
        while max(level.shape[:2]) > _SMALLEST_LEVEL / 2:
            _write_level(writer, _tiles(level), level.shape[:2], mpp * scale, reduced=True)
            level, scale = _halved(level), scale * 2


def _write_level(
    writer: tifffile.TiffWriter,
    tiles: Iterator[NDArray[np.uint8]],
    shape: tuple[int, ...],
    mpp: float,
    *,
    reduced: bool,
) -> None:
    per_cm = 10_000 / Fraction(mpp).limit_denominator(10**_MPP_DECIMALS)
    writer.write(
        tiles,
        shape=(*shape, 3),
        dtype=np.uint8,
        tile=(TILE, TILE),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": 90},
        subfiletype=1 if reduced else 0,
        resolution=(
            (per_cm.numerator, per_cm.denominator),
            (per_cm.numerator, per_cm.denominator),
        ),
        resolutionunit="CENTIMETER",
        software=f"wsi-anomaly synthetic {GENERATOR_VERSION}",
        metadata=None,
    )
