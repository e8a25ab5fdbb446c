"""How large a pixel is: from whoever says so, in order of trust."""

from __future__ import annotations

import math
from collections.abc import Mapping

from wsi_anomaly.core.magnification import PLAUSIBLE_UM, check_mpp, mpp_of
from wsi_anomaly.slides.base import Mpp

_UM_PER_UNIT = {"centimeter": 10_000.0, "inch": 25_400.0}


def find_mpp(properties: Mapping[str, str], override: Mpp | float | None = None) -> Mpp | None:
    """Micrometres per pixel, or None when nothing plausible says it.

    Order: the override (a number by the user, or what is known already), OpenSlide's mpp, Aperio's
    and OME's, TIFF resolution tags, objective power.

    Raises
    ------
    UsageError
        The override is no plausible size of a pixel.
    """
    if isinstance(override, Mpp):
        return override
    if override is not None:
        check_mpp(override)
        return Mpp(override, override, "--mpp")
    candidates = (
        (
            _number(properties, "openslide.mpp-x"),
            _number(properties, "openslide.mpp-y"),
            "openslide.mpp",
        ),
        (
            _number(properties, "aperio.MPP"),
            _number(properties, "aperio.MPP"),
            "aperio.MPP",
        ),
        (
            _number(properties, "ome.PhysicalSizeX"),
            _number(properties, "ome.PhysicalSizeY"),
            "OME PhysicalSize",
        ),
        (
            _from_resolution(properties, "tiff.XResolution"),
            _from_resolution(properties, "tiff.YResolution"),
            "TIFF resolution",
        ),
    )
    for x, y, source in candidates:
        if _plausible(x) and _plausible(y):
            return Mpp(x, y, source)
    power = objective_power(properties)
    if power:
        mpp = mpp_of(power)
        if _plausible(mpp):
            return Mpp(mpp, mpp, "objective power")
    return None


def objective_power(properties: Mapping[str, str]) -> float | None:
    """Magnification of the objective as the scanner noted it, or None."""
    for name in ("openslide.objective-power", "aperio.AppMag", "ome.NominalMagnification"):
        power = _number(properties, name)
        if power > 0:
            return power
    return None


def _number(properties: Mapping[str, str], name: str) -> float:
    try:
        value = float(properties.get(name, "nan"))
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _from_resolution(properties: Mapping[str, str], name: str) -> float:
    per_unit = _number(properties, name)
    unit = _UM_PER_UNIT.get(properties.get("tiff.ResolutionUnit", ""), math.nan)
    return unit / per_unit if per_unit > 0 else math.nan


def _plausible(mpp: float) -> bool:
    return PLAUSIBLE_UM[0] <= mpp <= PLAUSIBLE_UM[1]
