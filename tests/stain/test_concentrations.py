"""Concentrations are the exact solution that a general solver finds too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls

from wsi_anomaly.stain import concentrations, optical_density
from wsi_anomaly.stain.concentrations import LAMBDA_CONCENTRATION

unit = st.tuples(*[st.floats(0.02, 1.0)] * 3).map(lambda v: np.array(v) / np.linalg.norm(v))
colours = st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=20)


def by_general_solver(density: np.ndarray, matrix: np.ndarray, penalty: float) -> np.ndarray:
    """The lasso of non-negative amounts as a plain non-negative least squares problem."""
    lower = np.linalg.cholesky(matrix @ matrix.T)
    right = np.linalg.solve(lower, density @ matrix.T - penalty)
    return nnls(lower.T, right)[0]


@given(colours, unit, unit, st.sampled_from([0.0, LAMBDA_CONCENTRATION, 0.1]))
def test_concentrations_agree_with_an_independent_solver(
    pixels: list, first: np.ndarray, second: np.ndarray, penalty: float
) -> None:
    if first @ second > np.cos(np.radians(3)):
        return  # no profile is so degenerate: StainProfile refuses it
    rgb, matrix = np.array(pixels, np.uint8), np.stack((first, second))
    found = concentrations(rgb, matrix, penalty=penalty)
    expected = [by_general_solver(x, matrix, penalty) for x in optical_density(rgb)]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_optical_density_is_never_negative_nor_infinite() -> None:
    rgb = np.array([[0, 0, 0], [255, 255, 255], [243, 250, 100]], np.uint8)
    density = optical_density(rgb, (243, 243, 243))
    assert np.isfinite(density).all()
    assert (density >= 0).all()
    assert density[2] == pytest.approx([0, 0, np.log(2.43)])
    assert density[0, 0] == pytest.approx(np.log(243))


def test_shape_is_kept() -> None:
    assert concentrations(np.zeros((2, 4, 5, 3), np.uint8), np.eye(3)[:2]).shape == (2, 4, 5, 2)
