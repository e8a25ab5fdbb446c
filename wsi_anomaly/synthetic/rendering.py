"""From layout and cells to stain concentrations, and from those to what a scanner sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.synthetic.cells import (
    ANGLE, CLEAR, COARSE, ERYTHROCYTE, IRREGULAR, KIND, SEED, SOFT, A, B, E, H, X, Y,
)  # fmt: skip
from wsi_anomaly.synthetic.noise import Plane, compiled, sample
from wsi_anomaly.synthetic.tissue import (
    ACROSS, ALONG, DENSE, FAT, FIELDS, FOLD, GLAND, GRID_UM, LESION, LUMEN, PEN, SOLID, THICK,
    TISSUE, VESSEL,
)  # fmt: skip

_FAT_CELL_UM = 62.0


@compiled
def _ramp(value: float, low: float, high: float) -> float:
    """0 below `low`, 1 above `high`, smooth between."""
    x = (value - low) / (high - low)
    x = min(max(x, 0.0), 1.0)
    return x * x * (3 - 2 * x)


@compiled
def _hash(i: int, j: int, k: int) -> float:
    """Hash to a number in [0, 1)."""
    n = (i * 374761393 + j * 668265263 + k * 1274126177) & 0xFFFFFFFF
    n = ((n ^ (n >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((n ^ (n >> 16)) & 0xFFFFFF) / 16777216.0


@compiled
def _mosaic(x: float, y: float) -> tuple[float, float]:
    """Distance to the nearest border of a mosaic of cells of size 1, and the cell's own number."""
    column, row = int(np.floor(x)), int(np.floor(y))
    first, second, own = 9.0, 9.0, 0.0
    for i in range(row - 1, row + 2):
        for j in range(column - 1, column + 2):
            dx = j + 0.15 + 0.7 * _hash(i, j, 1) - x
            dy = i + 0.15 + 0.7 * _hash(i, j, 2) - y
            distance = np.sqrt(dx * dx + dy * dy)
            if distance < first:
                first, second = distance, first
                own = _hash(i, j, 3)
            elif distance < second:
                second = distance
    return (second - first) / 2, own


@compiled
def tissue_concentrations(
    fields: Plane,
    bank: Plane,
    top: int,
    mpp: float,
    balance: NDArray[np.float64],
    out: Plane,
) -> None:
    """Fill a strip with what lies between the cells.

    Parameters
    ----------
    fields
        The layout's fields.
    bank
        Noise.
    top
        First row of the strip, px.
    mpp
        um per px.
    balance
        (3,) factors within lesions: on hematoxylin, on eosin, and on the cytoplasm's hematoxylin.
    out
        (3, rows, columns) hematoxylin, eosin, ink; overwritten.
    """
    rows, columns = out.shape[1], out.shape[2]
    f = np.empty(FIELDS, np.float32)
    line = np.empty((fields.shape[1], FIELDS), np.float32)
    for i in range(rows):
        y = (top + i + 0.5) * mpp
        gy = min(max(y / GRID_UM, 0.0), fields.shape[0] - 1.001)
        iy = int(gy)
        ty = np.float32(gy - iy)
        for m in range(line.shape[0]):
            for k in range(FIELDS):
                above = fields[iy, m, k]
                line[m, k] = above + ty * (fields[iy + 1, m, k] - above)
        for j in range(columns):
            x = (j + 0.5) * mpp
            gx = min(max(x / GRID_UM, 0.0), fields.shape[1] - 1.001)
            ix = int(gx)
            tx = np.float32(gx - ix)
            for k in range(FIELDS):
                f[k] = line[ix, k] + tx * (line[ix + 1, k] - line[ix, k])
            out[2, i, j] = 0.0
            if f[PEN] > -6:
                streak = sample(bank, x / 90, y / 5) * 0.10 + sample(bank, x / 40, y / 40) * 0.12
                edge = _ramp(f[PEN] + 3 * sample(bank, x / 14, y / 14), -2, 3)
                out[2, i, j] = edge * max(0.85 + streak + 0.2 * _ramp(-f[PEN], -14, -2), 0.2)
            rough = 5.0 * sample(bank, x / 22, y / 22) + 2.0 * sample(bank, x / 6, y / 6 + 40)
            if f[TISSUE] + rough < 0:
                out[0, i, j] = 0.0
                out[1, i, j] = 0.0
                continue
            inside = _ramp(f[LESION], -12, 4)
            h, e = _at(f, bank, x, y, 1 + inside * (balance[2] - 1))
            body = _ramp(f[TISSUE] + rough, 0.0, 2.5)
            if f[FOLD] > -6:
                ragged = f[FOLD] + 2.5 * sample(bank, x / 18, y / 18)
                body *= 1.0 + 1.05 * _ramp(ragged, -1.5, 1.5)
            body *= f[THICK]
            out[0, i, j] = h * body * (1 + inside * (balance[0] - 1))
            out[1, i, j] = e * body * (1 + inside * (balance[1] - 1))


@compiled
def _at(f: Plane, bank: Plane, x: float, y: float, basophilia: float) -> tuple[float, float]:
    """Hematoxylin and eosin of the tissue at one point, cells left out."""
    fine = sample(bank, x / 2.2, y / 2.2)
    medium = sample(bank, x / 7 + 17, y / 7)
    gland = f[GLAND] + 1.2 * sample(bank, x / 9, y / 9 + 5)
    in_gland = _ramp(gland, -1.2, 1.2)
    in_solid = _ramp(f[SOLID] + 2.0 * medium, -1.2, 1.2)
    in_fat = _ramp(f[FAT] + 4.0 * medium, -2.0, 2.0)
    h, e = 0.0, 0.0
    if in_gland < 1 and in_solid < 1 and in_fat < 1:
        # Two families of fibres cross at a narrow angle; thin ridges are single fibrils.
        u, v = f[ALONG] + 2.0 * medium, f[ACROSS] + 0.9 * medium
        dense = f[DENSE]
        cross = 0.42 * sample(bank, u / 60 + 7, v / 60)
        bundle = sample(bank, u / 46 + 0.004 * v, (v + cross * u * 0.02) / 8)
        fibril = sample(bank, (u + 0.5 * v) / 17 + 31, (v - 0.22 * u) / 2.4)
        other = sample(bank, (u - 0.4 * v) / 13 + 83, (v + 0.28 * u) / 2.0)
        strand = 1 - min(abs(fibril), abs(other)) * 1.6
        net = sample(bank, x / 5, y / 5 + 61)
        # Loose stroma has gaps between its fibres; dense collagen is nearly closed.
        level = bundle + 0.55 * fibril + 0.35 * net + 0.30 * other
        gap = _ramp(level, -2.1 + 0.7 * (1 - dense), -1.1 + 0.7 * (1 - dense))
        e = (0.37 + 0.14 * dense) * (1 + 0.13 * bundle + 0.09 * other + 0.08 * fine)
        e += 0.08 * max(strand, -0.5) * (0.5 + dense)
        e = max(e, 0.05) * (0.45 + 0.55 * gap)
        h = (0.07 + 0.03 * net + 0.07 * (1 - dense)) * (0.4 + 0.6 * gap)
        wall = f[VESSEL]
        if wall > -9:
            rim = _ramp(wall, -8, -5) * (1 - _ramp(wall, -1.0, 0.6))
            e += rim * (0.62 - e) * 0.8
            lumen = _ramp(wall, -0.8, 0.8)
            e *= 1 - 0.96 * lumen
            h *= 1 - 0.9 * lumen
    if in_gland > 0:
        apical = _ramp(gland, 8, 20)
        border, tone = _mosaic(x / 8.5 + 0.06 * medium, y / 8.5 + 0.06 * fine)
        seam = 1 - _ramp(border * 8.5, 0.2, 0.9)
        grain = 0.055 * fine + 0.05 * medium + 0.04 * sample(bank, x / 1.2, y / 1.2 + 9)
        ce = 0.42 + 0.08 * apical + grain + 0.10 * (tone - 0.5) - 0.05 * seam
        ch = 0.32 - 0.12 * apical + 0.8 * grain + 0.08 * (0.5 - tone)
        ch *= basophilia
        lumen = f[LUMEN] + 1.5 * sample(bank, x / 8 + 9, y / 8)
        brush = _ramp(lumen, -2.2, -0.8) * (1 - _ramp(lumen, -0.6, 0.6))
        ce += 0.22 * brush
        open_ = _ramp(lumen, -0.7, 0.7)
        mucus = max(0.0, sample(bank, x / 16, y / 16 + 77) - 0.9) * 0.16
        ce = ce * (1 - open_) + open_ * (0.015 + 0.5 * mucus)
        ch = ch * (1 - open_) + open_ * (0.01 + mucus)
        # The basement membrane and a slit of retraction outside it.
        membrane = _ramp(gland, -0.8, 0.4) * (1 - _ramp(gland, 0.6, 2.0))
        ce += 0.16 * membrane
        h = h * (1 - in_gland) + ch * in_gland
        e = e * (1 - in_gland) + ce * in_gland
    if in_solid > 0:
        border, tone = _mosaic(x / 12.6 + 0.05 * medium, y / 12.6 + 0.05 * fine)
        seam = 1 - _ramp(border * 12.6, 0.2, 1.0)
        grain = 0.05 * fine + 0.05 * medium + 0.04 * sample(bank, x / 1.2, y / 1.2 + 9)
        ce = 0.48 + grain - 0.10 * seam + 0.10 * (tone - 0.5)
        ch = 0.26 + 0.16 * (1 - _ramp(f[SOLID], 4, 26)) + 0.7 * grain - 0.05 * seam
        h = h * (1 - in_solid) + ch * in_solid
        e = e * (1 - in_solid) + ce * in_solid
    if in_fat > 0:
        warp = 0.10 * sample(bank, x / 55, y / 55 + 3)
        border, _ = _mosaic(x / _FAT_CELL_UM + warp, y / _FAT_CELL_UM - warp)
        membrane = 1 - _ramp(border * _FAT_CELL_UM, 0.7, 2.0 + 0.5 * medium)
        ce = 0.012 + membrane * (0.42 + 0.06 * fine)
        ch = 0.008 + membrane * 0.07
        h = h * (1 - in_fat) + ch * in_fat
        e = e * (1 - in_fat) + ce * in_fat
    return max(h, 0.0), max(e, 0.0)


@compiled
def draw_cells(
    cells: Plane, bank: Plane, fields: Plane, top: int, mpp: float,
    balance: NDArray[np.float64], out: Plane,
) -> None:  # fmt: skip
    """Draw cells onto a strip of concentrations.

    Parameters are those of :func:`tissue_concentrations`; `cells` is the table of
    :mod:`wsi_anomaly.synthetic.cells`, in the order of drawing.
    """
    rows, columns = out.shape[1], out.shape[2]
    for n in range(cells.shape[0]):
        c = cells[n]
        reach = c[A] * (1.15 + c[IRREGULAR]) + 1.0
        y0 = max(int((c[Y] - reach) / mpp) - top, 0)
        y1 = min(int((c[Y] + reach) / mpp) + 2 - top, rows)
        if y0 >= y1:
            continue
        x0 = max(int((c[X] - reach) / mpp), 0)
        x1 = min(int((c[X] + reach) / mpp) + 2, columns)
        cos, sin = np.cos(c[ANGLE]), np.sin(c[ANGLE])
        soft = max(c[SOFT], 0.8 * mpp) / c[B]
        ox, oy = c[SEED], c[SEED] * 7.7
        gy = min(int(c[Y] / GRID_UM), fields.shape[0] - 1)
        gx = min(int(c[X] / GRID_UM), fields.shape[1] - 1)
        inside = _ramp(fields[gy, gx, LESION], -12, 4)
        thick = fields[gy, gx, THICK] * (1.0 + 1.05 * _ramp(fields[gy, gx, FOLD], -1.5, 1.5))
        nh = c[H] * thick * (1 + inside * (balance[0] - 1))
        ne = c[E] * thick * (1 + inside * (balance[1] - 1))
        contour = 2.2 * c[B]
        for i in range(y0, y1):
            dy = (top + i + 0.5) * mpp - c[Y]
            for j in range(x0, x1):
                dx = (j + 0.5) * mpp - c[X]
                p = dx * cos + dy * sin
                q = dy * cos - dx * sin
                rho = np.sqrt((p / c[A]) ** 2 + (q / c[B]) ** 2)
                if rho > 1.6 + c[IRREGULAR]:
                    continue
                rho += c[IRREGULAR] * sample(bank, p / contour + ox, q / contour + oy)
                cover = _ramp(1.0 - rho, -soft, soft)
                if cover <= 0.0:
                    continue
                if c[KIND] == CLEAR:
                    grain = 1 + c[COARSE] * sample(bank, p / 2 + oy, q / 2 + ox)
                    out[0, i, j] += cover * (nh * grain - out[0, i, j])
                    out[1, i, j] += cover * (ne - out[1, i, j])
                    continue
                if c[KIND] == ERYTHROCYTE:
                    dome = 0.8 + 0.2 * _ramp(rho, 0.2, 0.9)
                    out[0, i, j] += cover * (nh - out[0, i, j])
                    out[1, i, j] = max(out[1, i, j], cover * ne * dome)
                    continue
                clump = sample(bank, p / 1.3 + oy, q / 1.3 + ox)
                speck = sample(bank, p / 2.4 + ox + 50, q / 2.4 + oy)
                texture = 1 + c[COARSE] * (0.6 * clump + 0.7 * speck)
                # Chromatin condenses under the nuclear membrane.
                texture += 0.30 * _ramp(rho, 0.60, 0.88)
                value = nh * max(texture, 0.25)
                below = out[0, i, j]
                out[0, i, j] = below + cover * (max(value, 0.6 * below + 0.4 * value) - below)
                out[1, i, j] += cover * (ne - out[1, i, j]) * 0.6


@compiled
def transmitted(planes: Plane, densities: NDArray[np.float64], white: Plane, out: Plane) -> None:
    """Beer and Lambert: light through hematoxylin, eosin and ink.

    Parameters
    ----------
    planes
        (3, H, W) concentrations.
    densities
        (3, 3) optical density of each, natural logarithm, in R, G, B.
    white
        (3,) grey level of empty glass.
    out
        (H, W, 3) grey levels; overwritten.
    """
    for i in range(planes.shape[1]):
        for j in range(planes.shape[2]):
            h, e, ink = planes[0, i, j], planes[1, i, j], planes[2, i, j]
            for k in range(3):
                density = h * densities[0, k] + e * densities[1, k] + ink * densities[2, k]
                out[i, j, k] = white[k] * np.exp(np.float32(-density))


@compiled
def blurred(image: Plane, kernel: Plane, out: Plane) -> None:
    """Blur (H, W, 3) with a separable kernel; `out` loses half a kernel at top and bottom."""
    half = len(kernel) // 2
    height, width = image.shape[0], image.shape[1]
    line = np.empty((width, 3), np.float32)
    for i in range(half, height - half):
        line[:] = 0
        for m in range(len(kernel)):
            weight = kernel[m]
            for j in range(width):
                for k in range(3):
                    line[j, k] += weight * image[i + m - half, j, k]
        for j in range(width):
            for k in range(3):
                total = np.float32(0)
                for m in range(len(kernel)):
                    jj = min(max(j + m - half, 0), width - 1)
                    total += kernel[m] * line[jj, k]
                out[i - half, j, k] = total


@compiled
def sensed(image: Plane, grain: Plane, top: int, sigma: float, out: NDArray[np.uint8]) -> None:
    """Add the sensor's noise to (H, W, 3) grey levels and round them."""
    size = grain.shape[0]
    for i in range(image.shape[0]):
        # Shift by row, so that the grain's period does not show.
        shift = int(_hash(top + i, 3, 7) * size)
        row = (top + i) % size
        for j in range(image.shape[1]):
            for k in range(3):
                noise = grain[row, (j * 3 + k + shift) % size]
                value = image[i, j, k] + sigma * noise + 0.5
                out[i, j, k] = np.uint8(min(max(value, 0.0), 255.0))
