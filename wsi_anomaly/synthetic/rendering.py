"""From layout and cells to stain concentrations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.compiling import compiled
from wsi_anomaly.synthetic.cells import (
    ANGLE,
    CLEAR,
    COARSE,
    ERYTHROCYTE,
    IRREGULAR,
    KIND,
    SEED,
    SOFT,
    A,
    B,
    E,
    H,
    X,
    Y,
)  # fmt: skip
from wsi_anomaly.synthetic.noise import Plane, ramp, sample
from wsi_anomaly.synthetic.substance import substance
from wsi_anomaly.synthetic.tissue import FIELDS, FOLD, GRID_UM, LESION, PEN, THICK, TISSUE


@compiled()
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
                edge = ramp(f[PEN] + 3 * sample(bank, x / 14, y / 14), -2, 3)
                out[2, i, j] = edge * max(0.85 + streak + 0.2 * ramp(-f[PEN], -14, -2), 0.2)
            rough = 5.0 * sample(bank, x / 22, y / 22) + 2.0 * sample(bank, x / 6, y / 6 + 40)
            if f[TISSUE] + rough < 0:
                out[0, i, j] = 0.0
                out[1, i, j] = 0.0
                continue
            inside = ramp(f[LESION], -12, 4)
            h, e = substance(f, bank, x, y, 1 + inside * (balance[2] - 1))
            body = ramp(f[TISSUE] + rough, 0.0, 2.5)
            if f[FOLD] > -6:
                ragged = f[FOLD] + 2.5 * sample(bank, x / 18, y / 18)
                body *= 1.0 + 1.05 * ramp(ragged, -1.5, 1.5)
            body *= f[THICK]
            out[0, i, j] = h * body * (1 + inside * (balance[0] - 1))
            out[1, i, j] = e * body * (1 + inside * (balance[1] - 1))


@compiled()
def draw_cells(
    cells: Plane, bank: Plane, fields: Plane, top: int, mpp: float,
    balance: NDArray[np.float64], out: Plane,
) -> None:  # fmt: skip
    """Draw cells onto a strip of concentrations (2, H, W).

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
        inside = ramp(fields[gy, gx, LESION], -12, 4)
        thick = fields[gy, gx, THICK] * (1.0 + 1.05 * ramp(fields[gy, gx, FOLD], -1.5, 1.5))
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
                cover = ramp(1.0 - rho, -soft, soft)
                if cover <= 0.0:
                    continue
                if c[KIND] == CLEAR:
                    grain = 1 + c[COARSE] * sample(bank, p / 2 + oy, q / 2 + ox)
                    out[0, i, j] += cover * (nh * grain - out[0, i, j])
                    out[1, i, j] += cover * (ne - out[1, i, j])
                    continue
                if c[KIND] == ERYTHROCYTE:
                    dome = 0.8 + 0.2 * ramp(rho, 0.2, 0.9)
                    out[0, i, j] += cover * (nh - out[0, i, j])
                    out[1, i, j] = max(out[1, i, j], cover * ne * dome)
                    continue
                clump = sample(bank, p / 1.3 + oy, q / 1.3 + ox)
                speck = sample(bank, p / 2.4 + ox + 50, q / 2.4 + oy)
                texture = 1 + c[COARSE] * (0.6 * clump + 0.7 * speck)
                # Chromatin condenses under the nuclear membrane.
                texture += 0.30 * ramp(rho, 0.60, 0.88)
                value = nh * max(texture, 0.25)
                below = out[0, i, j]
                out[0, i, j] = below + cover * (max(value, 0.6 * below + 0.4 * value) - below)
                out[1, i, j] += cover * (ne - out[1, i, j]) * 0.6
