"""What the tissue between the cells is made of: hematoxylin and eosin at one point.

Every function takes the layout's fields `f` at the point, the noise `bank`, and the point's place
in um.
"""

from __future__ import annotations

from wsi_anomaly.core.compiling import compiled
from wsi_anomaly.synthetic.noise import Plane, mosaic, ramp, sample
from wsi_anomaly.synthetic.tissue import (
    ACROSS,
    ALONG,
    DENSE,
    FAT,
    GLAND,
    LUMEN,
    SOLID,
    VESSEL,
)  # fmt: skip

_FAT_CELL_UM = 62.0


@compiled()
def substance(f: Plane, bank: Plane, x: float, y: float, basophilia: float) -> tuple[float, float]:
    """Hematoxylin and eosin of the tissue at one point, cells left out."""
    fine = sample(bank, x / 2.2, y / 2.2)
    medium = sample(bank, x / 7 + 17, y / 7)
    gland = f[GLAND] + 1.2 * sample(bank, x / 9, y / 9 + 5)
    in_gland = ramp(gland, -1.2, 1.2)
    in_solid = ramp(f[SOLID] + 2.0 * medium, -1.2, 1.2)
    in_fat = ramp(f[FAT] + 4.0 * medium, -2.0, 2.0)
    h, e = 0.0, 0.0
    if in_gland < 1 and in_solid < 1 and in_fat < 1:
        h, e = _stroma(f, bank, x, y, fine, medium)
    if in_gland > 0:
        ch, ce = _gland(f, bank, x, y, gland, fine, medium, basophilia)
        h = h * (1 - in_gland) + ch * in_gland
        e = e * (1 - in_gland) + ce * in_gland
    if in_solid > 0:
        ch, ce = _solid(f, bank, x, y, fine, medium)
        h = h * (1 - in_solid) + ch * in_solid
        e = e * (1 - in_solid) + ce * in_solid
    if in_fat > 0:
        ch, ce = _fat(bank, x, y, fine, medium)
        h = h * (1 - in_fat) + ch * in_fat
        e = e * (1 - in_fat) + ce * in_fat
    return max(h, 0.0), max(e, 0.0)


@compiled()
def _stroma(
    f: Plane, bank: Plane, x: float, y: float, fine: float, medium: float
) -> tuple[float, float]:
    """Fibres, and the vessels among them."""
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
    gap = ramp(level, -2.1 + 0.7 * (1 - dense), -1.1 + 0.7 * (1 - dense))
    e = (0.37 + 0.14 * dense) * (1 + 0.13 * bundle + 0.09 * other + 0.08 * fine)
    e += 0.08 * max(strand, -0.5) * (0.5 + dense)
    e = max(e, 0.05) * (0.45 + 0.55 * gap)
    h = (0.07 + 0.03 * net + 0.07 * (1 - dense)) * (0.4 + 0.6 * gap)
    wall = f[VESSEL]
    if wall > -9:
        rim = ramp(wall, -8, -5) * (1 - ramp(wall, -1.0, 0.6))
        e += rim * (0.62 - e) * 0.8
        lumen = ramp(wall, -0.8, 0.8)
        e *= 1 - 0.96 * lumen
        h *= 1 - 0.9 * lumen
    return h, e


@compiled()
def _gland(
    f: Plane, bank: Plane, x: float, y: float, gland: float, fine: float, medium: float,
    basophilia: float,
) -> tuple[float, float]:  # fmt: skip
    """Cytoplasm, brush border, lumen and basement membrane."""
    apical = ramp(gland, 8, 20)
    border, tone = mosaic(x / 8.5 + 0.06 * medium, y / 8.5 + 0.06 * fine)
    seam = 1 - ramp(border * 8.5, 0.2, 0.9)
    grain = 0.055 * fine + 0.05 * medium + 0.04 * sample(bank, x / 1.2, y / 1.2 + 9)
    ce = 0.42 + 0.08 * apical + grain + 0.10 * (tone - 0.5) - 0.05 * seam
    ch = 0.32 - 0.12 * apical + 0.8 * grain + 0.08 * (0.5 - tone)
    ch *= basophilia
    lumen = f[LUMEN] + 1.5 * sample(bank, x / 8 + 9, y / 8)
    brush = ramp(lumen, -2.2, -0.8) * (1 - ramp(lumen, -0.6, 0.6))
    ce += 0.22 * brush
    open_ = ramp(lumen, -0.7, 0.7)
    mucus = max(0.0, sample(bank, x / 16, y / 16 + 77) - 0.9) * 0.16
    ce = ce * (1 - open_) + open_ * (0.015 + 0.5 * mucus)
    ch = ch * (1 - open_) + open_ * (0.01 + mucus)
    # The basement membrane and a slit of retraction outside it.
    membrane = ramp(gland, -0.8, 0.4) * (1 - ramp(gland, 0.6, 2.0))
    ce += 0.16 * membrane
    return ch, ce


@compiled()
def _solid(
    f: Plane, bank: Plane, x: float, y: float, fine: float, medium: float
) -> tuple[float, float]:
    """Stratified epithelium: its cells' bodies and borders."""
    border, tone = mosaic(x / 12.6 + 0.05 * medium, y / 12.6 + 0.05 * fine)
    seam = 1 - ramp(border * 12.6, 0.2, 1.0)
    grain = 0.05 * fine + 0.05 * medium + 0.04 * sample(bank, x / 1.2, y / 1.2 + 9)
    ce = 0.48 + grain - 0.10 * seam + 0.10 * (tone - 0.5)
    ch = 0.26 + 0.16 * (1 - ramp(f[SOLID], 4, 26)) + 0.7 * grain - 0.05 * seam
    return ch, ce


@compiled()
def _fat(bank: Plane, x: float, y: float, fine: float, medium: float) -> tuple[float, float]:
    """Membranes around emptiness."""
    warp = 0.10 * sample(bank, x / 55, y / 55 + 3)
    border, _ = mosaic(x / _FAT_CELL_UM + warp, y / _FAT_CELL_UM - warp)
    membrane = 1 - ramp(border * _FAT_CELL_UM, 0.7, 2.0 + 0.5 * medium)
    ce = 0.012 + membrane * (0.42 + 0.06 * fine)
    ch = 0.008 + membrane * 0.07
    return ch, ce
