"""StainTools is the reference: the same stains, the same pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stain_fakes import degrees_between, stained_pixels

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.stain import METHODS, StainNormalizer, fit_profile, reference_target
from wsi_anomaly.stain import staintools_engine as engine

REAL = (
    "tiles/glas/images/22.png",
    "tiles/glas/images/48.png",
    "tiles/glas/images/60.png",
    "tiles/oral/carcinoma/OSCC_100x_1.jpg",
    "tiles/oral/carcinoma/OSCC_400x_260.jpg",
    "tiles/oral/normal/Normal_400x_137.jpg",
)


@pytest.fixture(scope="module", autouse=True)
def _staintools() -> None:
    pytest.importorskip("staintools", reason="the extra 'staintools' is not installed")


def compare(rgb: np.ndarray, method: str) -> None:
    ours, theirs = fit_profile(rgb, method), engine.fit_staintools(rgb, method)
    assert degrees_between(ours.matrix, theirs.matrix).max() < 2.0
    assert ours.maxima == pytest.approx(theirs.maxima, rel=0.1)

    target = reference_target()
    here = StainNormalizer(theirs, target)(rgb)
    there = engine.StainToolsNormalizer(theirs, target)(rgb)
    assert np.median(np.abs(here.astype(int) - there)) <= 2
    assert (here > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_synthetic_pixels(method: str) -> None:
    compare(stained_pixels(), method)


@pytest.mark.parametrize("name", REAL)
def test_real_images(real_data: Path, name: str) -> None:
    rgb = np.asarray(Image.open(real_data / name).convert("RGB"))
    for method in METHODS:
        compare(rgb, method)


def test_ours_reaches_a_lower_minimum_of_the_same_objective() -> None:
    """Not just alike: StainTools stops short of the minimum at which ours stands."""
    import spams

    from wsi_anomaly.stain import optical_density
    from wsi_anomaly.stain.fitting import choose_pixels
    from wsi_anomaly.stain.vahadane import LAMBDA_FIT

    pixels = choose_pixels(stained_pixels())
    density = np.asfortranarray(optical_density(pixels).T)

    def objective(matrix: np.ndarray) -> float:
        atoms = np.asfortranarray(matrix.T)
        a = spams.lasso(density, D=atoms, mode=2, lambda1=LAMBDA_FIT, pos=True, numThreads=1)
        rest = density - atoms @ a.toarray()
        return (0.5 * (rest**2).sum() + LAMBDA_FIT * a.sum()) / len(pixels)

    ours, theirs = fit_profile(pixels), engine.fit_staintools(pixels, "vahadane")
    assert objective(ours.matrix) <= objective(theirs.matrix) + 1e-9


def test_the_engine_gives_the_same_profile_again() -> None:
    pixels = stained_pixels(5000)
    first = engine.fit_staintools(pixels, "vahadane")
    assert engine.fit_staintools(pixels, "vahadane") == first


def test_a_missing_extra_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "staintools", None)
    with pytest.raises(UsageError, match=r"wsi-anomaly\[staintools\]"):
        engine.require_staintools()
