"""The layout of a synthetic slide: which tissue lies where, as smooth fields on a coarse grid.

Everything is in micrometres, so that one layout can be scanned at any mpp. Borders are signed
distances, positive inside: sampled between the grid's points they stay smooth at every zoom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from shapely.geometry import LineString, Polygon

from wsi_anomaly.synthetic.lesions import REACTIVE, Atypia, place_lesions
from wsi_anomaly.synthetic.noise import smooth_noise

GRID_UM = 4.0
_VARIANTS_APART_UM = 350.0  # from lesions and from each other
_LYMPHOCYTES, _IN_THE_CENTRE = 15_000.0, 9_000.0  # of a follicle, per mm2

# The fields, in the order they are stored.
TISSUE, GLAND, LUMEN, SOLID, FAT, VESSEL, LESION, FOLD, PEN = range(9)  # signed distances, um
ALONG, ACROSS = 9, 10  # fibre coordinates, um
DENSE, THICK = 11, 12  # collagen density 0-1; thickness, about 1
FIELDS = 13

Grid = NDArray[np.float64]


@dataclass
class Layout:
    """Where everything lies.

    Attributes
    ----------
    fields
        (rows, columns, 13) float32, see the constants of this module; point (i, j) lies at
        (j, i) x `GRID_UM`.
    size_um
        Width and height.
    lesions, folds, pens, follicles, reactive
        Polygons in um. The field `LESION` holds reactive glands as well as lesions.
    lymphoid
        (rows, columns) lymphocytes per mm2.
    """

    fields: NDArray[np.float32]
    size_um: tuple[float, float]
    lymphoid: Grid
    lesions: list[Polygon] = field(default_factory=list)
    folds: list[Polygon] = field(default_factory=list)
    pens: list[Polygon] = field(default_factory=list)
    follicles: list[Polygon] = field(default_factory=list)
    reactive: list[Polygon] = field(default_factory=list)

    def at(self, points: NDArray[np.float64], name: int) -> NDArray[np.float64]:
        """Field `name` at (N, 2) points x, y in um."""
        return interpolate(self.fields[:, :, name], points)


def interpolate(grid: NDArray[np.floating], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values of a grid at (N, 2) points x, y in um."""
    values = ndimage.map_coordinates(
        grid, [points[:, 1] / GRID_UM, points[:, 0] / GRID_UM], order=1, mode="nearest"
    )
    return np.asarray(values, dtype=np.float64)


def make_layout(
    rng: np.random.Generator,
    size_um: tuple[float, float],
    atypia: Atypia | None,
    *,
    folds: int,
    pens: int,
    lesion_mm2: float | None = None,
    variants: int = 0,
) -> Layout:
    """Draw a layout: tissue pieces, their kinds of tissue, lesions, variants, folds, pens."""
    shape = (int(size_um[1] / GRID_UM) + 2, int(size_um[0] / GRID_UM) + 2)
    y, x = np.indices(shape) * GRID_UM
    layout = Layout(np.zeros((*shape, FIELDS), np.float32), size_um, np.zeros(shape))
    tissue = _pieces(rng, x, y, size_um)
    glandular, solid, fat = _kinds(rng, shape, size_um)
    clear_of = np.minimum(tissue - 15, -fat - 10)
    largest = float(np.clip(0.17 * min(size_um), 80, 300))
    radius_um = (0.55 * largest, largest)
    if lesion_mm2 is not None:
        radius_um = (1e3 * math.sqrt(lesion_mm2 / math.pi),) * 2
    if atypia is not None:
        layout.lesions = place_lesions(rng, clear_of, GRID_UM, int(rng.integers(1, 4)), radius_um)
    for kind in (layout.follicles, layout.reactive):
        placed = [*layout.lesions, *layout.follicles, *layout.reactive]
        room = np.minimum(clear_of, -inside(placed, shape) - _VARIANTS_APART_UM)
        kind.extend(place_lesions(rng, room, GRID_UM, variants, radius_um))
    lesion = inside(layout.lesions, shape)
    follicle, reaction = inside(layout.follicles, shape), inside(layout.reactive, shape)
    other = np.maximum(lesion, reaction)
    solid = np.minimum(solid, -np.maximum(other, follicle) - 6)
    nests = [(lesion, atypia)] if atypia is not None else []
    nests += [(reaction, REACTIVE)] if layout.reactive else []
    gland, lumen = _glands(rng, x, y, glandular, nests)
    gland = np.minimum(gland, np.minimum(tissue - 6, np.maximum(-solid - 8, -200)))
    gland = np.minimum(gland, np.maximum(-follicle - 8, -200))
    along, across = _fibres(rng, x, y)
    free = np.minimum(-gland - 4, -solid - 4)
    vessel = _vessels(rng, x, y, free, tissue, fat, np.maximum(other, follicle))
    layout.folds, fold = _strokes(rng, shape, size_um, folds, (22, 48))
    layout.pens, pen = _strokes(rng, shape, size_um, pens, (60, 110))
    dense = 1 / (1 + np.exp(-2.2 * smooth_noise(rng, shape, 160 / GRID_UM)))
    thick = 1 + 0.07 * smooth_noise(rng, shape, 500 / GRID_UM)
    for name, values in {
        TISSUE: tissue, GLAND: gland, LUMEN: np.minimum(lumen, gland - 5), SOLID: solid, FAT: fat,
        VESSEL: vessel, LESION: other, FOLD: fold, PEN: pen, THICK: np.clip(thick, 0.75, 1.3),
        ALONG: along, ACROSS: across + 0.8 * np.clip(gland, -40, 0), DENSE: dense,
    }.items():  # fmt: skip
        layout.fields[:, :, name] = values
    lymphoid = _lymphoid(rng, shape, size_um, gland, solid, fat, other)
    middle = np.where(follicle > 90, _IN_THE_CENTRE, _LYMPHOCYTES)
    layout.lymphoid = np.where(follicle > 0, middle, lymphoid)
    return layout


def _signed(mask: NDArray[np.bool_], rounding: float = 1.0) -> Grid:
    """Signed distance to the border of a mask, um, positive inside; corners rounded."""
    if not mask.any():
        return np.full(mask.shape, -1e3)
    if mask.all():
        return np.full(mask.shape, 1e3)
    distance = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    return np.asarray(ndimage.gaussian_filter(distance, rounding) * GRID_UM)


def _pieces(rng: np.random.Generator, x: Grid, y: Grid, size_um: tuple[float, float]) -> Grid:
    """Signed distance to the outline of one to three pieces of tissue."""
    width, height = size_um
    count = 1 if min(size_um) < 1500 else int(rng.integers(1, 4))
    across = width >= height
    mask = np.zeros(x.shape, bool)
    for i in range(count):
        part = (i + 0.5) / count
        cx = width * (part if across else 0.5) + rng.normal(0, 0.015) * width
        cy = height * (0.5 if across else part) + rng.normal(0, 0.015) * height
        rx = 0.45 * width / (count if across else 1) * rng.uniform(0.9, 1.02)
        ry = 0.45 * height / (1 if across else count) * rng.uniform(0.9, 1.02)
        radius = min(rx, ry)
        tilt = rng.uniform(-0.25, 0.25)
        dx = (x - cx) * np.cos(tilt) + (y - cy) * np.sin(tilt)
        dy = (y - cy) * np.cos(tilt) - (x - cx) * np.sin(tilt)
        # A rounded rectangle, bitten by noise at two scales.
        round_ = ((np.abs(dx) / rx) ** 3 + (np.abs(dy) / ry) ** 3) ** (1 / 3)
        edge = (1 - round_) * radius
        edge += 0.07 * radius * smooth_noise(rng, x.shape, 0.7 * radius / GRID_UM)
        edge += 0.03 * radius * smooth_noise(rng, x.shape, 0.2 * radius / GRID_UM)
        mask |= edge > 0
    return _signed(mask)


def _kinds(
    rng: np.random.Generator, shape: tuple[int, int], size_um: tuple[float, float]
) -> tuple[Grid, Grid, Grid]:
    """Signed distances to glandular tissue, solid epithelium and fat; the rest is fibrous."""
    wavelength = min(700.0, 0.45 * min(size_um)) / GRID_UM
    bias = np.array([0.6, 0.0, 0.0, -1.0]) + rng.normal(0, 0.12, 4)
    scores = np.stack([smooth_noise(rng, shape, wavelength) + b for b in bias])
    kind = scores.argmax(axis=0)  # glandular, fibrous, solid, fat
    return _signed(kind == 0, 3.0), _signed(kind == 2, 3.0), _signed(kind == 3, 2.0)


def inside(polygons: list[Polygon], shape: tuple[int, ...]) -> Grid:
    """Signed distance on a grid of this shape to polygons given in um."""
    mask = np.zeros(shape, bool)
    y, x = np.indices(shape) * GRID_UM
    for polygon in polygons:
        mask |= shapely.contains_xy(polygon, x, y)
    return _signed(mask)


def jittered(
    rng: np.random.Generator, size_um: tuple[float, float], spacing: float, jitter: float = 0.32
) -> NDArray[np.float64]:
    """(N, 2) points x, y on a hexagonal grid, each moved at random."""
    row = spacing * np.sqrt(3) / 2
    rows = np.arange(-1, size_um[1] / row + 2)
    columns = np.arange(-1, size_um[0] / spacing + 2)
    j, i = np.meshgrid(columns, rows)
    points = np.column_stack([((j + 0.5 * (i % 2)) * spacing).ravel(), (i * row).ravel()])
    return points + rng.normal(0, jitter * spacing / 1.6, points.shape)


def apart(points: NDArray[np.float64], distance: float) -> NDArray[np.float64]:
    """Drop the later one of each two points (N, 2) that lie closer than `distance`."""
    keep = np.ones(len(points), bool)
    if len(points):
        for first, second in sorted(cKDTree(points).query_pairs(distance)):
            if keep[first]:
                keep[second] = False
    return points[keep]


def _glands(
    rng: np.random.Generator, x: Grid, y: Grid, glandular: Grid, nests: list[tuple[Grid, Atypia]]
) -> tuple[Grid, Grid]:
    """Signed distances to glands and to their lumina, cells of a warped Voronoi diagram.

    `nests` are places of other glands, as signed distances.
    """
    size = (float(x.max()), float(y.max()))
    spacing = rng.uniform(80, 104)
    warp_x, warp_y = (smooth_noise(rng, x.shape, 110 / GRID_UM) for _ in range(2))
    points = np.column_stack([(x + 9 * warp_x).ravel(), (y + 9 * warp_y).ravel()])
    within = (glandular > -spacing).ravel()
    seeds = apart(jittered(rng, size, spacing), 0.7 * spacing)
    radius = spacing * rng.uniform(0.34, 0.46, len(seeds))
    height = rng.uniform(20, 27, len(seeds))
    gland, lumen = _cells(points, within, seeds, radius, height, gap=rng.uniform(9, 16))
    gland = np.minimum(gland.reshape(x.shape), glandular)
    lumen = lumen.reshape(x.shape)
    points = np.column_stack([(x + 12 * warp_y).ravel(), (y + 12 * warp_x).ravel()])
    for place, atypia in nests:
        within = (place > -40).ravel()
        seeds = apart(jittered(rng, size, spacing * 0.9, 0.42), 0.6 * spacing)
        radius = spacing * rng.uniform(0.52, 0.80, len(seeds))
        height = np.where(
            rng.random(len(seeds)) < atypia.solid, 1e3, rng.uniform(19, 30, len(seeds))
        )
        nest, hole = _cells(points, within, seeds, radius, height, gap=rng.uniform(3, 6))
        nest = np.minimum(nest.reshape(x.shape), place - 2)
        # Cribriform nests: holes punched anywhere.
        punched = 16 * (smooth_noise(rng, x.shape, 34 / GRID_UM) - 1.6)
        hole = np.maximum(hole.reshape(x.shape), np.minimum(punched, nest - 7))
        outside = np.minimum(gland, -place - 8)
        gland = np.where(place > -4, nest, outside)
        lumen = np.where(place > -4, hole, lumen)
    return (
        _without_slivers(np.asarray(ndimage.gaussian_filter(gland, 1.0))),
        np.asarray(ndimage.gaussian_filter(lumen, 0.8)),
    )


def _without_slivers(gland: Grid) -> Grid:
    """Remove glands too thin to hold a row of nuclei."""
    parts, count = ndimage.label(gland > -1)
    depth = np.concatenate([[np.inf], ndimage.maximum(gland, parts, np.arange(1, count + 1))])
    return np.where(depth[parts] < 7.5, -4.0, gland)


def _cells(
    points: NDArray[np.float64],
    inside: NDArray[np.bool_],
    seeds: NDArray[np.float64],
    radius: NDArray[np.float64],
    height: NDArray[np.float64],
    gap: float,
) -> tuple[Grid, Grid]:
    gland = np.full(len(points), -60.0)
    lumen = np.full(len(points), -60.0)
    if inside.any():
        distance, index = cKDTree(seeds).query(points[inside], k=2)
        own = index[:, 0]
        edge = np.minimum((distance[:, 1] - distance[:, 0] - gap) / 2, radius[own] - distance[:, 0])
        gland[inside] = np.maximum(edge, -60)
        lumen[inside] = np.maximum(edge - height[own], -60)
    return gland, lumen


def _fibres(rng: np.random.Generator, x: Grid, y: Grid) -> tuple[Grid, Grid]:
    """Coordinates along and across the fibres, wavy at three scales."""
    angle = rng.uniform(0, np.pi)
    along = np.cos(angle) * x + np.sin(angle) * y
    across = np.cos(angle) * y - np.sin(angle) * x
    for wavelength, amplitude in ((520, 130), (170, 30), (60, 4.0)):
        along = along + 0.4 * amplitude * smooth_noise(rng, x.shape, wavelength / GRID_UM)
        across = across + amplitude * smooth_noise(rng, x.shape, wavelength / GRID_UM)
    return along, across


def _vessels(
    rng: np.random.Generator, x: Grid, y: Grid, free: Grid, tissue: Grid, fat: Grid, lesion: Grid
) -> Grid:
    """Signed distance to the lumen of small vessels, placed in stroma only."""
    vessel = np.full(x.shape, -1e3)
    room = np.minimum(np.minimum(free, tissue - 25), np.minimum(-fat - 10, -lesion - 20))
    area_mm2 = float((tissue > 0).sum()) * GRID_UM**2 / 1e6
    for _ in range(int(rng.poisson(3 * area_mm2))):
        places = np.flatnonzero(room > 16)
        if len(places) == 0:
            break
        row, column = np.unravel_index(rng.choice(places), x.shape)
        radius = min(rng.uniform(9, 34), 0.75 * float(room[row, column]))
        angle, aspect = rng.uniform(0, np.pi), rng.uniform(0.55, 1.0)
        dx, dy = x - x[row, column], y - y[row, column]
        p = dx * np.cos(angle) + dy * np.sin(angle)
        q = (dy * np.cos(angle) - dx * np.sin(angle)) / aspect
        vessel = np.maximum(vessel, (radius - np.hypot(p, q)) * aspect)
        room = np.minimum(room, np.hypot(dx, dy) - 2 * radius)
    return vessel


def _strokes(
    rng: np.random.Generator,
    shape: tuple[int, int],
    size_um: tuple[float, float],
    count: int,
    width_um: tuple[float, float],
) -> tuple[list[Polygon], Grid]:
    """Curved bands across the slide: their polygons and their signed distance."""
    polygons = []
    for _ in range(count):
        centre = rng.uniform(0.3, 0.7, 2) * size_um
        angle = rng.uniform(0, np.pi)
        length = rng.uniform(0.35, 0.6) * min(size_um)
        t = np.linspace(-0.5, 0.5, 40)
        bend = rng.normal(0, 0.25) * length * (t**2 - 0.1) * 2 + rng.normal(
            0, 0.02
        ) * length * np.sin(9 * t + rng.uniform(0, 6))
        px = centre[0] + np.cos(angle) * t * length - np.sin(angle) * bend
        py = centre[1] + np.sin(angle) * t * length + np.cos(angle) * bend
        half = rng.uniform(*width_um) / 2 * min(1.0, min(size_um) / 1000)
        polygons.append(LineString(np.column_stack([px, py])).buffer(half))
    return polygons, inside(polygons, shape)


def _lymphoid(
    rng: np.random.Generator,
    shape: tuple[int, int],
    size_um: tuple[float, float],
    gland: Grid,
    solid: Grid,
    fat: Grid,
    lesion: Grid,
) -> Grid:
    """Lymphocytes per mm2: a scatter everywhere in stroma, aggregates here and there."""
    wavelength = min(420.0, 0.4 * min(size_um)) / GRID_UM
    patches = smooth_noise(rng, shape, wavelength) + 0.4 * smooth_noise(rng, shape, 60 / GRID_UM)
    density = 350 + 1500 * np.clip(patches, 0, None) + 9000 * np.clip(patches - 1.5, 0, 1)
    density = np.where(lesion > 0, np.minimum(density, 900), density)
    density = np.where((gland > -2) | (fat > 0), 60, density)
    return np.where(solid > 0, 120, density)
