"""A slide's stains are found, always the same ones, or one sentence says why not."""

from __future__ import annotations

import numpy as np
import pytest
from stain_fakes import MATRIX, degrees_between, stained_pixels

from wsi_anomaly.core.errors import StainError
from wsi_anomaly.stain import METHODS, StainProfile, concentrations, fit_profile, reference_target


@pytest.mark.parametrize("method", METHODS)
def test_known_stains_are_found(method: str) -> None:
    profile = fit_profile(stained_pixels(), method)
    assert degrees_between(profile.matrix, MATRIX).max() < 4.0
    assert profile.matrix[0, 0] > profile.matrix[1, 0]  # hematoxylin absorbs more red


@pytest.mark.parametrize("method", METHODS)
def test_tinted_glass_does_not_count_as_stain(method: str) -> None:
    on_white = fit_profile(stained_pixels(), method)
    on_grey = fit_profile(stained_pixels(white=230.0), method, white=(230, 230, 230))
    assert degrees_between(on_white.matrix, on_grey.matrix).max() < 0.5
    assert on_grey.maxima == pytest.approx(on_white.maxima, rel=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_pixels_give_the_same_profile(method: str) -> None:
    pixels = stained_pixels(100_000)
    assert fit_profile(pixels, method) == fit_profile(pixels.copy(), method)


def test_maxima_are_the_99th_percentiles_over_tissue() -> None:
    pixels = stained_pixels()
    profile = fit_profile(pixels)
    amounts = concentrations(pixels, profile.matrix)
    share = (amounts > profile.maxima).mean(0)
    assert 0.005 < share.min() <= share.max() < 0.0105  # glass is a tenth of the pixels


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.full((5000, 3), 250, np.uint8), "tissue pixels"),
        (stained_pixels(150), "tissue pixels"),
        (np.zeros((0, 3), np.uint8), "tissue pixels"),
        (np.full((5000, 3), (120, 60, 140), np.uint8), None),
        (np.zeros((5000, 3), np.uint8), None),
        (np.repeat(np.arange(20, 120, dtype=np.uint8), 60)[:, None].repeat(3, 1), None),
    ],
    ids=["glass", "too few", "nothing", "one colour", "black", "grey"],
)
def test_pixels_without_two_stains_are_refused(
    method: str, pixels: np.ndarray, said: str | None
) -> None:
    with pytest.raises(StainError, match=said):
        fit_profile(pixels, method)


def test_a_profile_survives_json() -> None:
    target = reference_target()
    assert StainProfile.from_dict(target.to_dict()) == target


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"matrix": [[1, 0, 0]], "maxima": [1, 1]},
        {"matrix": [[1, 0, 0], [1, 0, 0]], "maxima": [1, 1]},
        {"matrix": [[1, 0, 0], [0, 2, 0]], "maxima": [1, 1]},
        {"matrix": [[1, 0, 0], [0, 1, 0]], "maxima": [1, 0]},
        {"matrix": [[1, 0, 0], [0, float("nan"), 0]], "maxima": [1, 1]},
        {"matrix": [[1, 0, 0], [0, 1, 0]], "maxima": [1, 1], "white": [0, 255, 255]},
    ],
)
def test_a_broken_profile_is_refused(broken: dict) -> None:
    with pytest.raises(StainError):
        StainProfile.from_dict(broken)
