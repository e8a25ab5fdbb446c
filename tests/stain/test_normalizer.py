"""Normalised pixels are what the formula says, glass stays glass, nothing becomes black."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from stain_fakes import MATRIX, stained_pixels

from wsi_anomaly.stain import StainNormalizer, StainProfile, concentrations, reference_target

SOURCE = StainProfile(MATRIX, (1.5, 1.2), (243, 244, 242))
TARGET = reference_target()


def by_formula(rgb: np.ndarray, source: StainProfile, target: StainProfile, match: bool):
    amounts = concentrations(rgb, source.matrix, white=source.white)
    if match:
        amounts = amounts * (target.maxima / source.maxima)
    value = target.white * np.exp(-amounts @ target.matrix)
    return np.clip(np.floor(value + 0.5), 1, 255).astype(np.uint8)


@pytest.mark.parametrize("match", [True, False])
def test_every_pixel_follows_the_formula(match: bool) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (7, 33, 31, 3), np.uint8)
    normalize = StainNormalizer(SOURCE, TARGET, match_maxima=match)
    for _ in range(2):  # from an empty table, then from a filled one
        assert (
            np.abs(normalize(rgb).astype(int) - by_formula(rgb, SOURCE, TARGET, match)).max() <= 1
        )
    assert (normalize(rgb) == by_formula(rgb, SOURCE, TARGET, match)).mean() > 0.999


@given(
    arrays(np.uint8, (40, 3)),
    st.floats(0.05, 8), st.floats(0.05, 8), st.floats(150, 255), st.booleans(),
)  # fmt: skip
def test_nothing_becomes_black(
    rgb: np.ndarray, h: float, e: float, white: float, match: bool
) -> None:
    source = StainProfile(MATRIX, (h, e), (white, white, white))
    out = StainNormalizer(source, TARGET, match_maxima=match)(rgb)
    assert (out > 0).all()


def test_glass_stays_glass() -> None:
    glass = np.array([[243, 244, 242], [255, 255, 255], [242, 243, 241]], np.uint8)
    assert (StainNormalizer(SOURCE, TARGET)(glass) == 255).all()


def test_a_slide_in_the_target_stains_stays_as_it_is() -> None:
    target = StainProfile(MATRIX, (1.5, 1.2))
    rgb = stained_pixels()
    out = StainNormalizer(target, target)(rgb)
    assert np.median(np.abs(out.astype(int) - rgb)) <= 1


def test_strengths_agree_with_the_target_afterwards() -> None:
    rgb = stained_pixels()
    amounts = concentrations(rgb, MATRIX)
    source = StainProfile(MATRIX, np.percentile(amounts, 99, axis=0))
    found = concentrations(StainNormalizer(source, TARGET)(rgb), TARGET.matrix)
    assert np.percentile(found, 99, axis=0) == pytest.approx(TARGET.maxima, rel=0.05)


def test_it_travels_between_processes_without_its_table() -> None:
    normalize = StainNormalizer(SOURCE, TARGET)
    rgb = stained_pixels(500)
    before = normalize(rgb)
    packed = pickle.dumps(normalize)
    assert len(packed) < 50_000
    np.testing.assert_array_equal(pickle.loads(packed)(rgb), before)


@pytest.mark.parametrize("rgb", [np.zeros((3, 3)), np.zeros((3, 4), np.uint8)])
def test_other_than_8_bit_rgb_is_refused(rgb: np.ndarray) -> None:
    with pytest.raises(ValueError, match="8-bit RGB"):
        StainNormalizer(SOURCE, TARGET)(rgb)


def test_colours_that_share_an_entry_keep_their_own_values() -> None:
    red, green, blue = np.meshgrid(
        (7, 200), (3, 100, 131, 228), (5, 60, 69, 124, 133, 188), indexing="ij"
    )
    colours = np.stack([red, green, blue], -1).reshape(-1, 3).astype(np.uint8)
    alone = np.concatenate([StainNormalizer(SOURCE, TARGET)(one[None]) for one in colours])
    assert len(np.unique(alone, axis=0)) > len(colours) / 2  # or it would say nothing
    order = np.random.default_rng(0).integers(0, len(colours), 2000)
    np.testing.assert_array_equal(StainNormalizer(SOURCE, TARGET)(colours[order]), alone[order])
