"""What scoring says of a slide, or a part of one, that is out of focus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter
from scoring_fakes import FakeModel

from wsi_anomaly.core.errors import NoTissueError
from wsi_anomaly.scoring import score_slide
from wsi_anomaly.scoring.alone import SlideAlone
from wsi_anomaly.slides import open_slide
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import Status

MPP = 0.5


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    path = make_slide(
        tmp_path_factory.mktemp("drawn") / "s.tif", seed=5, size_px=(2048, 1024), mpp=MPP
    ).path
    with open_slide(path) as slide:
        return slide.read(0, 0, (2048, 1024), MPP).rgb


def written(path: Path, picture: np.ndarray, sigma_um: float, part: slice) -> Path:
    """A slide of which a part, from column to column, is blurred."""
    soft = gaussian_filter(picture.astype(np.float32), (sigma_um / MPP, sigma_um / MPP, 0))
    image = picture.copy()
    image[:, part] = np.rint(soft[:, part])
    tifffile.imwrite(
        path, image, tile=(256, 256), photometric="rgb", compression="jpeg",
        compressionargs={"level": 90}, resolution=(1e4 / MPP, 1e4 / MPP),
        resolutionunit="CENTIMETER",
    )  # fmt: skip
    return path


@pytest.mark.parametrize("sigma_um", [2, 4])
def test_half_a_slide_out_of_focus_is_not_assessed_as_a_whole(tmp_path, picture, sigma_um) -> None:
    path = written(tmp_path / "s.tif", picture, sigma_um, slice(0, 1024))
    result = score_slide(path, FakeModel())
    soft, sharp = result.fields.col < 8, result.fields.col > 8
    assert soft.sum() > 40
    assert (result.status[soft] == Status.BLURRED).all()
    assert (result.status[sharp] == Status.OK).all()
    assert result.interpretation.incomparable == ()
    assert result.not_assessed_mm2()["blurred"] == pytest.approx(
        result.fields.tissue_fraction[soft].sum() * 0.064**2, rel=0.02
    )


def test_a_slide_evenly_less_sharp_cannot_be_compared_and_is_not_blurred(tmp_path, picture) -> None:
    path = written(tmp_path / "s.tif", picture, 0.9, slice(None))
    result = score_slide(path, FakeModel())
    assert (result.status == Status.OK).mean() > 0.9
    assert result.interpretation.verdict == "cannot be compared"
    assert "less sharp" in result.interpretation.incomparable[0]
    assert not result.interpretation.flagged.any()


def test_a_slide_in_focus_can_be_compared(tmp_path, picture) -> None:
    path = written(tmp_path / "s.tif", picture, 0, slice(0, 0))
    result = score_slide(path, FakeModel())
    assert (result.status == Status.OK).mean() > 0.99
    assert result.interpretation.incomparable == ()


def test_a_slide_out_of_focus_and_no_model_is_said(tmp_path, picture) -> None:
    path = written(tmp_path / "s.tif", picture, 4, slice(None))
    with pytest.raises(NoTissueError, match="more are out of focus"):
        score_slide(path, SlideAlone())
