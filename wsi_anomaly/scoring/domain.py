"""Whether a slide is of the kind that the model has learned from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.calibration.shift import AXIS
from wsi_anomaly.tiles import SlidePreprocessor

# Beyond the training slides by more than these a reader should know. A few slides do not show the
# whole range of a laboratory, so each range is widened first.
_ANGLE_SLACK_DEGREES = 3.0
_STRENGTH_SLACK = 1.3
_MPP_SLACK = 1.15
_DETAIL_SLACK = 1.5
# From here on a slide is another picture of tissue. Slides in focus have at least 1.1, of whatever
# organ and scanner, those blurred by 1 um at most 0.6 (benchmarks/focus.py).
_LESS_SHARP, _SURELY_LESS = 0.55, 0.65


def measures(
    preprocessor: SlidePreprocessor,
    sharpness: float,
    score: NDArray[np.floating],
    place: NDArray[np.floating],
) -> dict[str, float]:
    """Put a slide into a few numbers, by which batches of slides are compared.

    Parameters
    ----------
    preprocessor
        Holds the slide's stain profile, unless stains are left alone.
    sharpness
        As :func:`domain_warnings` takes it.
    score
        (N,) raw scores, NaN where not assessed.
    place
        (k,) where its tissue lies in the model's space; empty where it has none.
    """
    low, median, high = (float(v) for v in np.nanquantile(score, (0.25, 0.5, 0.75)))
    out = {"median score": median, "spread of scores": high - low, "sharpness": float(sharpness)}
    out |= {f"{AXIS}{i}": float(value) for i, value in enumerate(place, start=1)}
    if preprocessor.stain is not None:
        strength, colour = preprocessor.stain.maxima, preprocessor.stain.matrix
        for i, name in enumerate(("hematoxylin", "eosin")):
            out[f"strength of {name}"] = float(strength[i])
            out[f"redness of {name}"] = -float(colour[i, 0])  # what absorbs red looks blue
    return {name: value for name, value in out.items() if np.isfinite(value)}


def domain_warnings(
    domain: Mapping[str, Any],
    *,
    preprocessor: SlidePreprocessor,
    mpp: float,
    sharpness: float,
) -> list[str]:
    """Say in what a slide lies far from the slides that a model was trained on.

    Parameters
    ----------
    domain
        Of the model; all entries are optional: ``stain_matrix_mean`` (2, 3),
        ``stain_angle_max_deg``, ``maxima_range`` ([low, high] of hematoxylin, eosin),
        ``mpp_range`` and ``detail_range`` ([low, high] over training slides).
    preprocessor
        Holds the slide's stain profile, unless stains are left alone.
    mpp
        Micrometres per level-0 pixel.
    sharpness
        Median over fields of :func:`wsi_anomaly.tiles.sharpness.sharpness`, NaN when unknown.
    """
    out = _stain_warnings(domain, preprocessor)
    if "mpp_range" in domain:
        low, high = (float(v) for v in domain["mpp_range"])
        if not low / _MPP_SLACK <= mpp <= high * _MPP_SLACK:
            out.append(
                f"Its pixels measure {mpp:.3g} um, those of the training slides "
                f"{_span(low, high, '.3g')}: sharpness may differ, and with it the scores."
            )
    if "detail_range" in domain and np.isfinite(sharpness) and not less_sharp(domain, sharpness):
        low, high = (float(v) for v in domain["detail_range"])
        if not low / _DETAIL_SLACK <= sharpness <= high * _DETAIL_SLACK:
            word = "coarser or less sharp" if sharpness < low else "finer or noisier"
            out.append(
                f"Its texture is {word} than that of the training slides ({sharpness:.2g}; they "
                f"have {_span(low, high)}): focus, scanner or tissue may differ."
            )
    return out


def _span(low: float, high: float, digits: str = ".2g") -> str:
    """Range of the training slides; one number where they do not differ, as where there is one."""
    ends = dict.fromkeys((f"{low:{digits}}", f"{high:{digits}}"))
    return " to ".join(ends)


def less_sharp(domain: Mapping[str, Any], sharpness: float) -> list[str]:
    """Say that a slide is evenly less sharp than the model's normal slides; empty if it is not.

    Models of 0.1.0 have no ``detail_range``: their limit is that of all slides in focus.

    Parameters
    ----------
    domain, sharpness
        As for :func:`domain_warnings`.
    """
    low = float(domain.get("detail_range", [np.inf])[0])
    limit = min(_LESS_SHARP * low, _SURELY_LESS)
    if not sharpness < limit:
        return []
    usual = (
        f"the model's normal slides ({low:.2g} and more)" if np.isfinite(low) else "slides in focus"
    )
    sentence = (
        f"The slide as a whole cannot be compared: less sharp ({sharpness:.2g}) than {usual}. Look "
        "at its focus; if the scanner gives no more, train on slides of it."
    )
    return [sentence]


def _stain_warnings(domain: Mapping[str, Any], preprocessor: SlidePreprocessor) -> list[str]:
    stain = preprocessor.stain
    if stain is None:
        return []
    out: list[str] = []
    if "stain_matrix_mean" in domain:
        mean = np.asarray(domain["stain_matrix_mean"], float)
        angles = np.degrees(np.arccos(np.clip((stain.matrix * mean).sum(1), -1, 1)))
        farthest = float(domain["stain_angle_max_deg"])
        most = farthest + _ANGLE_SLACK_DEGREES
        reach = f" (they reach {farthest:.0f})" if round(farthest) else ""  # one: its own
        for name, angle in zip(("hematoxylin", "eosin"), angles.tolist(), strict=True):
            if angle > most:
                out.append(
                    f"The colour of its {name} lies {angle:.0f} degrees from the training slides' "
                    f"mean{reach}: another stain or scanner; scores may be too high all over."
                )
    if "maxima_range" in domain:
        for name, value, (low, high) in zip(
            ("hematoxylin", "eosin"), stain.maxima.tolist(), domain["maxima_range"], strict=True
        ):
            if not low / _STRENGTH_SLACK <= value <= high * _STRENGTH_SLACK:
                word = "weaker" if value < low else "stronger"
                out.append(
                    f"Its {name} is {word} ({value:.2g}) than on any training slide "
                    f"({_span(low, high)}); noise or lost detail may pass for an anomaly."
                )
    return out
