"""How large a pixel is: from whoever says so, in order of trust."""

from __future__ import annotations

import math
from collections.abc import Mapping

from wsi_anomaly.core.magnification import PLAUSIBLE_UM, check_mpp, mpp_of
from wsi_anomaly.core.tables import parse_number
from wsi_anomaly.slides.base import Mpp

_UM_PER_UNIT = {"centimeter": 10_000.0, "inch": 25_400.0}
_SAYS_NOTHING = ("", "nan", "none", "null")
_TOO_FINE = 3.0  # times finer than the objective's nominal size, which no optics gives


class UnusableMppError(Exception):
    """Why what a file says of its pixel size is not used: a phrase after "the file says"."""


def find_mpp(properties: Mapping[str, str], override: Mpp | float | None = None) -> Mpp | None:
    """Micrometres per pixel, or None when nothing plausible says it.

    Order: the override (a number by the user, or what is known already), OpenSlide's mpp, Aperio's
    and OME's, TIFF resolution tags, objective power. What cannot be read, or cannot be, is not
    replaced by a worse source: :func:`mpp_problem` then says what it is.

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
    try:
        return _stated_mpp(properties)
    except UnusableMppError:
        return None


def mpp_problem(properties: Mapping[str, str]) -> str:
    """Say why what a file says of its pixel size is not used; "" when nothing is wrong."""
    try:
        _stated_mpp(properties)
    except UnusableMppError as problem:
        return str(problem)
    return ""


def _stated_mpp(properties: Mapping[str, str]) -> Mpp | None:
    power = objective_power(properties)
    # OpenSlide works its own figure out of the resolution of a TIFF that is nobody's.
    derived = properties.get("openslide.vendor", "generic-tiff") == "generic-tiff"
    for names, source, guess in (
        (("openslide.mpp-x", "openslide.mpp-y"), "openslide.mpp", derived),
        (("aperio.MPP", "aperio.MPP"), "aperio.MPP", False),
        (("ome.PhysicalSizeX", "ome.PhysicalSizeY"), "OME PhysicalSize", False),
        (("czi.ScalingX", "czi.ScalingY"), "CZI Scaling", False),
    ):
        x, y = (_size(properties, name, source, guess) for name in names)
        if _plausible(x) and _plausible(y):
            return _not_too_fine(Mpp(x, y, source), power)
    x, y = (_from_resolution(properties, f"tiff.{axis}Resolution") for axis in "XY")
    if _plausible(x) and _plausible(y):
        return _not_too_fine(Mpp(x, y, "TIFF resolution"), power)
    if power and _plausible(mpp_of(power)):
        return Mpp(mpp_of(power), mpp_of(power), "objective power")
    return None


def _size(properties: Mapping[str, str], name: str, source: str, guess: bool) -> float:
    """Size that a property states, um; nan where it states none.

    Raises
    ------
    UnusableMppError
        It is no number, or no size of a pixel unless it may be a mere `guess`.
    """
    text = properties.get(name, "").strip()
    if text.lower() in _SAYS_NOTHING:
        return math.nan
    size = parse_number(text)
    if size is None:
        raise UnusableMppError(f"{text!r} ({source}), which is no number")
    if size > 0 and not guess and not _plausible(size):
        raise UnusableMppError(f"{text} um per pixel ({source}), which no slide has")
    return size


def _not_too_fine(mpp: Mpp, power: float | None) -> Mpp:
    """Question a pixel far finer than the objective's; a coarser one may be a reduced copy's.

    Raises
    ------
    UnusableMppError
        It is.
    """
    if power and min(mpp.x, mpp.y) * _TOO_FINE < mpp_of(power):
        raise UnusableMppError(
            f"{min(mpp.x, mpp.y):g} um per pixel ({mpp.source}) beside an objective of {power:g}x, "
            f"which gives about {mpp_of(power):g} um"
        )
    return mpp


def objective_power(properties: Mapping[str, str]) -> float | None:
    """Magnification of the objective as the scanner noted it, or None."""
    for name in ("openslide.objective-power", "aperio.AppMag", "ome.NominalMagnification"):
        power = parse_number(properties.get(name, "").strip().rstrip("xX"))
        if power and power > 0:
            return power
    return None


def _from_resolution(properties: Mapping[str, str], name: str) -> float:
    per_unit = parse_number(properties.get(name, ""))
    unit = _UM_PER_UNIT.get(properties.get("tiff.ResolutionUnit", ""), math.nan)
    return unit / per_unit if per_unit and per_unit > 0 else math.nan


def _plausible(mpp: float) -> bool:
    return PLAUSIBLE_UM[0] <= mpp <= PLAUSIBLE_UM[1]
