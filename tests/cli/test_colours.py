"""Colours that cannot be H&E are said before anything else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from cli_running import run_cli
from PIL import Image
from score_running import score

from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.slides.overview import read_overview
from wsi_anomaly.stain import StainProfile, fit_profile, reference_target
from wsi_anomaly.synthetic import make_slide


def undecoded(rgb: np.ndarray) -> np.ndarray:
    """YCbCr taken for red, green and blue: glass is pink, tissue green and pink."""
    return np.asarray(Image.fromarray(rgb).convert("YCbCr"))


def swapped(rgb: np.ndarray) -> np.ndarray:
    """The same with its two colours swapped."""
    return undecoded(rgb)[..., [0, 2, 1]]


@pytest.fixture(scope="module")
def pixels(tmp_path_factory) -> np.ndarray:
    path = make_slide(tmp_path_factory.mktemp("drawn") / "a.tif", seed=5, size_px=(1600, 1600)).path
    return tifffile.imread(path, key=0)


def written(path: Path, rgb: np.ndarray) -> Path:
    tifffile.imwrite(
        path, rgb, tile=(256, 256), photometric="rgb", compression="zlib",
        resolution=(20000, 20000), resolutionunit="CENTIMETER",
    )  # fmt: skip
    return path


@pytest.mark.parametrize("change", [undecoded, swapped])
def test_a_colour_space_that_was_not_decoded_is_said_first(here, model, pixels, change):
    path = written(here / "odd.tif", change(pixels))
    assert score(path, "--model", model, "-o", "r") == 0
    warnings = json.loads(Path("r/odd/summary.json").read_text())["warnings"]
    assert warnings[0].startswith("Its colours cannot be hematoxylin and eosin")
    assert "swapped or not decoded" in warnings[0]
    assert "Nothing was ever measured" in warnings[0]
    code, said = run_cli("tile", path, "-o", "t")
    assert code == 0
    assert "(Its colours cannot be hematoxylin and eosin" in said
    reason = Path("t/slides.csv").read_text()
    assert "cannot be hematoxylin and eosin" in reason


def test_red_and_green_swapped_is_all_ink_and_that_is_said(here, model, pixels):
    path = written(here / "swapped.tif", np.ascontiguousarray(pixels[..., [1, 0, 2]]))
    code, said = run_cli("tile", path, "-o", "t")
    assert code == 1
    assert "only colours of ink" in said
    assert "converted again" in said


def test_red_and_blue_swapped_is_far_from_the_training_slides(here, model, pixels):
    """Alone it passes for another lab's stain: hematoxylin and eosin differ as much."""
    path = written(here / "swapped.tif", np.ascontiguousarray(pixels[..., ::-1]))
    assert score(path, "--model", model, "-o", "r") == 0
    warnings = " ".join(json.loads(Path("r/swapped/summary.json").read_text())["warnings"])
    assert "stain, scanner or organ may differ" in warnings


def test_hematoxylin_and_eosin_get_no_such_word(here, model, pixels):
    path = written(here / "plain.tif", pixels)
    assert score(path, "--model", model, "-o", "r") == 0
    assert "cannot be hematoxylin" not in Path("r/plain/summary.json").read_text()


def test_the_brown_of_immunohistochemistry_is_another_stain():
    brown = np.array([[0.65, 0.70, 0.29], [0.27, 0.57, 0.78]])
    brown /= np.linalg.norm(brown, axis=1, keepdims=True)
    assert "immunohistochemistry" in StainProfile(brown, (1, 1)).doubt
    assert reference_target().doubt == ""


@pytest.mark.parametrize(
    "name",
    ["larynx_40x.tif", "colon_normal.tif", "colon_adenoma.tif", "cmu1_small_region.svs",
     "tcga_no_mpp.svs"],
)  # fmt: skip
def test_real_slides_are_told_from_the_same_undecoded(real_data, name):
    mpp = 0.5 if "no_mpp" in name else None
    with open_slide(real_data / "slides" / name, mpp=mpp) as slide:
        overview = read_overview(slide)
        tissue = find_tissue(slide, overview)
    rgb = overview.rgb[tissue.labels == 1]
    assert fit_profile(rgb, white=tissue.white).doubt == ""
    for change in (undecoded, swapped):
        assert "not decoded" in fit_profile(change(overview.rgb)).doubt
