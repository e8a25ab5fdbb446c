"""Where the cells lie and what each looks like, as rows of one table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import find_contours

from wsi_anomaly.synthetic import tissue as t
from wsi_anomaly.synthetic.lesions import REACTIVE, Atypia
from wsi_anomaly.synthetic.tissue import GRID_UM, Layout, apart, jittered

# The columns of a cell: lengths in um, concentrations with 1 = a well stained structure.
X, Y, A, B, ANGLE, H, E, IRREGULAR, COARSE, SOFT, KIND, SEED = range(12)
COLUMNS = 12

NUCLEUS, CLEAR, ERYTHROCYTE = 0.0, 1.0, 2.0

Points = NDArray[np.float64]
Cells = NDArray[np.float32]


@dataclass(frozen=True)
class Habit:
    """How the cells of one slide differ from those of another.

    Attributes
    ----------
    size
        Factor on nuclear diameters.
    crowding
        Factor on cell densities.
    coarseness
        Chromatin clumps of normal nuclei, fraction of the mean.
    goblets
        Goblet vacuoles per gland cell.
    """

    size: float
    crowding: float
    coarseness: float
    goblets: float


def random_habit(rng: np.random.Generator) -> Habit:
    """Draw a slide's habit."""
    return Habit(
        size=float(np.exp(rng.normal(0, 0.04))),
        crowding=float(np.exp(rng.normal(0, 0.06))),
        coarseness=float(rng.uniform(0.22, 0.36)),
        goblets=float(rng.uniform(0.0, 0.35)),
    )


def make_cells(
    rng: np.random.Generator, layout: Layout, habit: Habit, atypia: Atypia | None
) -> Cells:
    """All cells of a layout, (N, 12) float32, lightest first so that nuclei lie on top."""
    groups = [
        _goblets(rng, layout, habit),
        _erythrocytes(rng, layout),
        _fibroblasts(rng, layout, habit),
        _lymphocytes(rng, layout, habit),
        _endothelium(rng, layout, habit),
        _gland_cells(rng, layout, habit),
        _solid_cells(rng, layout, habit),
        _fat_cells(rng, layout),
        _dust(rng, layout),
    ]
    shape = layout.lymphoid.shape
    if atypia is not None:
        groups.append(_nest_cells(rng, layout, habit, atypia, t.inside(layout.lesions, shape)))
    if layout.reactive:
        groups.append(_nest_cells(rng, layout, habit, REACTIVE, t.inside(layout.reactive, shape)))
    cells = np.concatenate(groups)
    cells[:, SEED] = rng.uniform(0, 100, len(cells))
    inside = (cells[:, :2] > 0).all(axis=1) & (cells[:, :2] < layout.size_um).all(axis=1)
    cells = cells[inside]
    order = np.lexsort((cells[:, X], cells[:, Y], cells[:, KIND] == NUCLEUS))
    return np.ascontiguousarray(cells[order])


def _table(
    rng: np.random.Generator,
    points: Points,
    *,
    a: tuple[float, float],
    aspect: tuple[float, float],
    h: tuple[float, float],
    e: float = 0.25,
    angle: tuple[NDArray[np.float64], float] | None = None,
    irregular: float = 0.10,
    coarse: float = 0.3,
    kind: float = NUCLEUS,
) -> Cells:
    """Rows for cells at `points`; pairs are mean and spread (log-normal for lengths)."""
    n = len(points)
    cells = np.zeros((n, COLUMNS), np.float32)
    if n == 0:
        return cells
    cells[:, :2] = points
    cells[:, A] = a[0] * np.exp(a[1] * np.clip(rng.normal(0, 1, n), -1.9, 1.9))
    cells[:, B] = cells[:, A] * np.clip(aspect[0] * np.exp(rng.normal(0, aspect[1], n)), 0.12, 1)
    direction, turn = (rng.uniform(0, np.pi, n), 0.0) if angle is None else angle
    cells[:, ANGLE] = direction + rng.normal(0, 1, n) * turn
    # A section cuts nuclei at every height: some are pale caps, some lie out of focus.
    cells[:, H] = np.clip(rng.normal(h[0], h[1], n), 0.15, None) * rng.uniform(0.78, 1.08, n)
    cells[:, E] = e
    cells[:, IRREGULAR] = irregular * rng.uniform(0.5, 1.5, n)
    cells[:, COARSE] = coarse * rng.uniform(0.6, 1.4, n)
    cells[:, SOFT] = rng.uniform(0.30, 0.85, n)
    cells[:, KIND] = kind
    return cells


def _scatter(
    rng: np.random.Generator, layout: Layout, spacing: float, probability: NDArray[np.floating]
) -> tuple[Points, NDArray[np.float64]]:
    """Jittered points kept with a probability given on the grid; and random numbers for them."""
    points = jittered(rng, layout.size_um, spacing)
    keep = t.interpolate(probability, points) > rng.random(len(points))
    return points[keep], rng.random(int(keep.sum()))


def _per_point(spacing: float) -> float:
    """Area in mm2 that one point of a hexagonal grid stands for."""
    return float(spacing**2 * np.sqrt(3) / 2 / 1e6)


def _direction(grid: NDArray[np.floating], points: Points) -> NDArray[np.float64]:
    """Direction of steepest ascent of a field at points, radians."""
    gy, gx = np.gradient(ndimage.gaussian_filter(grid.astype(np.float64), 1.0))
    return np.arctan2(t.interpolate(gy, points), t.interpolate(gx, points))


def _stroma(layout: Layout) -> NDArray[np.bool_]:
    f = layout.fields
    return (
        (f[..., t.TISSUE] > 4) & (f[..., t.GLAND] < -3) & (f[..., t.SOLID] < -4)
        & (f[..., t.FAT] < -2) & (f[..., t.VESSEL] < -4)
    )  # fmt: skip


def _fibroblasts(rng: np.random.Generator, layout: Layout, habit: Habit) -> Cells:
    spacing = 12.0
    density = 1250 * habit.crowding * (1.25 - 0.55 * layout.fields[..., t.DENSE])
    points, _ = _scatter(rng, layout, spacing, _stroma(layout) * density * _per_point(spacing))
    angle = _direction(layout.fields[..., t.ACROSS], points) + np.pi / 2
    return _table(
        rng, points, a=(6.8 * habit.size, 0.24), aspect=(0.27, 0.25), h=(1.25, 0.2),
        angle=(angle, 0.22),
        irregular=0.12, coarse=habit.coarseness * 0.7,
    )  # fmt: skip


def _lymphocytes(rng: np.random.Generator, layout: Layout, habit: Habit) -> Cells:
    spacing = 7.2
    tissue = (layout.fields[..., t.TISSUE] > 4) & (layout.fields[..., t.VESSEL] < -3)
    lumen = layout.fields[..., t.LUMEN] > -4
    probability = tissue * ~lumen * layout.lymphoid * habit.crowding * _per_point(spacing)
    points, _ = _scatter(rng, layout, spacing, probability)
    return _table(
        rng, points, a=(3.1 * habit.size, 0.09), aspect=(0.9, 0.08), h=(1.55, 0.18), irregular=0.07,
        coarse=habit.coarseness,
    )  # fmt: skip


def _endothelium(rng: np.random.Generator, layout: Layout, habit: Habit) -> Cells:
    points, normal = _along_contour(rng, layout.fields[..., t.VESSEL], -1.5, 16.0, 3.0)
    return _table(
        rng, points, a=(5.2 * habit.size, 0.15), aspect=(0.28, 0.2), h=(1.3, 0.15),
        angle=(normal + np.pi / 2, 0.1), coarse=habit.coarseness,
    )  # fmt: skip


def _along_contour(
    rng: np.random.Generator,
    grid: NDArray[np.floating],
    level: float,
    spacing: float,
    jitter: float,
) -> tuple[Points, NDArray[np.float64]]:
    """Points about `spacing` um apart on a level line, with the direction across it."""
    found: list[Points] = []
    for line in find_contours(grid, level):  # type: ignore[no-untyped-call]
        xy = line[:, ::-1] * GRID_UM
        length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
        count = int(length[-1] / spacing)
        if count < 3:
            continue
        at = (np.arange(count) + rng.uniform(-0.25, 0.25, count)) * (length[-1] / count)
        found.append(np.column_stack([np.interp(at, length, xy[:, i]) for i in (0, 1)]))
    points = np.concatenate(found) if found else np.zeros((0, 2))
    normal = _direction(grid, points)
    shift = rng.normal(0, jitter, len(points))
    points = points + shift[:, None] * np.column_stack([np.cos(normal), np.sin(normal)])
    return points, normal


def _gland_cells(rng: np.random.Generator, layout: Layout, habit: Habit) -> Cells:
    gland = np.where(layout.fields[..., t.LESION] > -2, -60, layout.fields[..., t.GLAND])
    points, normal = _along_contour(rng, gland, 6.5, 7.4 / habit.crowding, 1.3)
    # Where the epithelium is cut obliquely a second row shows.
    second, second_normal = _along_contour(rng, gland, 14.0, 7.0 / habit.crowding, 2.0)
    oblique = rng.random(len(second)) < 0.16
    points = np.concatenate([points, second[oblique]])
    normal = np.concatenate([normal, second_normal[oblique]])
    return _table(
        rng, points, a=(4.4 * habit.size, 0.10), aspect=(0.60, 0.10), h=(1.15, 0.14),
        angle=(normal, 0.16),
        irregular=0.08, coarse=habit.coarseness,
    )  # fmt: skip


def _goblets(rng: np.random.Generator, layout: Layout, habit: Habit) -> Cells:
    gland = np.where(layout.fields[..., t.LESION] > -2, -60, layout.fields[..., t.GLAND])
    points, normal = _along_contour(rng, gland, 14.5, 9.0, 1.5)
    keep = rng.random(len(points)) < habit.goblets
    keep &= t.interpolate(layout.fields[..., t.LUMEN], points) < -2
    return _table(
        rng, points[keep], a=(5.6, 0.14), aspect=(0.72, 0.1), h=(0.16, 0.05), e=0.10,
        angle=(normal[keep], 0.1), irregular=0.06, coarse=0.5, kind=CLEAR,
    )  # fmt: skip


def _solid_cells(rng: np.random.Generator, layout: Layout, habit: Habit) -> Cells:
    solid = np.minimum(layout.fields[..., t.SOLID], layout.fields[..., t.TISSUE] - 3)
    basal, normal = _along_contour(rng, solid, 5.0, 6.4 / habit.crowding, 1.0)
    spacing = 13.6 / np.sqrt(habit.crowding)
    upper, _ = _scatter(rng, layout, spacing, np.where(solid > 11, 0.93, 0.0))
    rows = [
        _table(
            rng, basal, a=(4.0 * habit.size, 0.10), aspect=(0.62, 0.1), h=(1.25, 0.14),
            angle=(normal, 0.2),
            irregular=0.08, coarse=habit.coarseness,
        ),
        _table(
            rng, upper, a=(4.0 * habit.size, 0.11), aspect=(0.80, 0.1), h=(0.92, 0.14),
            irregular=0.08,
            coarse=habit.coarseness,
        ),
    ]  # fmt: skip
    return np.concatenate(rows)


def _fat_cells(rng: np.random.Generator, layout: Layout) -> Cells:
    fat = layout.fields[..., t.FAT] > 6
    points, _ = _scatter(rng, layout, 30.0, fat * (layout.fields[..., t.TISSUE] > 4) * 0.25)
    return _table(rng, points, a=(4.6, 0.2), aspect=(0.34, 0.2), h=(1.2, 0.15))


def _erythrocytes(rng: np.random.Generator, layout: Layout) -> Cells:
    vessel = layout.fields[..., t.VESSEL]
    points, chance = _scatter(rng, layout, 5.8, (vessel > 2) * 0.85)
    # Some vessels are packed, others empty: decided by place, about one vessel a 90 um cell.
    cell = np.floor(points / 90).astype(np.int64)
    packed = ((cell[:, 0] * 7919 + cell[:, 1] * 104729) % 97) / 97
    points = points[chance < packed]
    return _table(
        rng, points, a=(3.2, 0.07), aspect=(0.88, 0.1), h=(0.15, 0.02), e=1.15, irregular=0.05,
        coarse=0.12, kind=ERYTHROCYTE,
    )  # fmt: skip


def _dust(rng: np.random.Generator, layout: Layout) -> Cells:
    area_mm2 = layout.size_um[0] * layout.size_um[1] / 1e6
    points = rng.uniform(0, layout.size_um, (int(rng.poisson(12 * area_mm2)), 2))
    return _table(rng, points, a=(1.6, 0.5), aspect=(0.6, 0.3), h=(0.35, 0.2), e=0.2, irregular=0.4)


def _nest_cells(
    rng: np.random.Generator,
    layout: Layout,
    habit: Habit,
    atypia: Atypia,
    within: NDArray[np.floating],
) -> Cells:
    """Cells of the atypical nests: from polarised rows (disorder 0) to no order at all (1)."""
    nest = np.where(within.astype(np.float32) > -2, layout.fields[..., t.GLAND], -60)
    width = 6.2 * atypia.enlargement / np.sqrt(habit.crowding)
    row, _ = _along_contour(rng, nest, 6.5, width, 1.5 + 4 * atypia.disorder)
    keep = rng.random(len(row)) > 0.55 * atypia.disorder
    spacing = 10.2 * atypia.enlargement / np.sqrt(habit.crowding)
    lumen = layout.fields[..., t.LUMEN]
    inner = np.where((nest > 3) & (lumen < -3), 0.28 + 0.72 * atypia.disorder, 0.0)
    fill, _ = _scatter(rng, layout, spacing, inner)
    points = apart(np.concatenate([row[keep], fill]), 0.62 * spacing)
    direction = _direction(nest, points)
    turn = np.where(
        rng.random(len(points)) < atypia.disorder, rng.uniform(0, np.pi, len(points)), 0
    )
    return _table(
        rng, points, a=(4.1 * atypia.enlargement * habit.size, atypia.variation),
        aspect=(0.72, 0.16),
        h=(1.9, 0.25), angle=(direction + turn, 0.2), irregular=atypia.irregularity,
        coarse=atypia.coarseness,
    )  # fmt: skip
