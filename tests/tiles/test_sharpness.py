"""Blur is blur: what is out of focus is told from what is pale, smooth or of another stain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from tile_fakes import ArraySlide, stained_picture

from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import Status, plan_fields
from wsi_anomaly.tiles.plane import SlidePlane
from wsi_anomaly.tiles.sharpness import MIN_SHARPNESS, amid_blur, blurred, sharpness


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Drawn tissue at 0.5 um a pixel, all over the picture."""
    path = make_slide(
        tmp_path_factory.mktemp("drawn") / "s.tif", seed=3, size_px=(1400, 1400), lesions="hard"
    ).path
    with open_slide(path) as slide:
        return slide.read(0, 0, (1400, 1400), 0.5).rgb


def out_of_focus(picture: np.ndarray, sigma_um: float, mpp: float = 0.5) -> np.ndarray:
    sigma = sigma_um / mpp
    return np.rint(gaussian_filter(picture.astype(np.float32), (sigma, sigma, 0))).astype(np.uint8)


def share_blurred(picture: np.ndarray, like: np.ndarray, magnification: int = 10) -> float:
    """Of the fields of a picture; its tissue is that of another one."""
    tissue = find_tissue(ArraySlide(like))
    slide = ArraySlide(picture)
    plane = SlidePlane(slide, tissue, magnification)
    plane.read(0, 0, plane.width, plane.height)
    fields = plan_fields(slide, tissue, field_um=64.0, min_tissue=0.1)
    fields = fields.take(np.flatnonzero(fields.status == Status.OK))
    assert len(fields) > 60
    return float((plane.status_of(fields) == Status.BLURRED).mean())


@pytest.mark.parametrize("magnification", [10, 20])
def test_tissue_in_focus_is_not_blurred(picture: np.ndarray, magnification: int) -> None:
    assert share_blurred(picture, picture, magnification) <= 0.01


@pytest.mark.parametrize("sigma_um", [2, 4, 8])
@pytest.mark.parametrize("magnification", [10, 20])
def test_tissue_out_of_focus_is_blurred(
    picture: np.ndarray, sigma_um: float, magnification: int
) -> None:
    soft = out_of_focus(picture, sigma_um)
    assert share_blurred(soft, picture, magnification) >= 0.95


@pytest.mark.parametrize("sigma_um", [0, 2, 4])
def test_a_pale_stain_changes_nothing(picture: np.ndarray, sigma_um: float) -> None:
    """A fifth of the contrast: what rounding to whole grey levels adds is no detail."""
    rng = np.random.default_rng(0)
    pale = 240 - 0.2 * (240.0 - picture)
    soft = gaussian_filter(pale, (sigma_um / 0.5, sigma_um / 0.5, 0)) if sigma_um else pale
    image = np.rint(soft + (0 if sigma_um else rng.normal(0, 1, pale.shape))).astype(np.uint8)
    share = share_blurred(image, picture)
    assert share >= 0.95 if sigma_um else share <= 0.02


def test_the_strip_at_the_border_is_judged_too() -> None:
    picture = stained_picture(650, 872)  # at 1 um: 40 um of the last column, 10 um of the last row
    for image, status in ((picture, Status.OK), (out_of_focus(picture, 4, 1.0), Status.BLURRED)):
        slide = ArraySlide(image, mpp=(1.0, 1.0))
        plane = SlidePlane(slide, find_tissue(ArraySlide(picture, mpp=(1.0, 1.0))), 10)
        plane.read(0, 0, plane.width, plane.height)
        assert plane.status.shape == (11, 14)
        assert (plane.status[:, 13] == status).all()
        assert (plane.status == status).mean() > 0.95


def test_a_square_without_contrast_is_judged_by_its_neighbours() -> None:
    sharp = stained_picture(256, 256)
    for picture, expected in ((sharp, False), (out_of_focus(sharp, 4, 1.0), True)):
        squares = np.stack([picture[:64, :64], np.full((64, 64, 3), 200, np.uint8)])
        assert blurred(squares, 1.0).tolist() == [expected, expected]
    alone = np.full((1, 64, 64, 3), 200, np.uint8)
    assert np.isinf(sharpness(alone, 1.0)).all()
    assert not blurred(alone, 1.0).any()


def test_a_field_has_the_same_sharpness_at_every_magnification(picture: np.ndarray) -> None:
    fine = picture[:128, :128][None]
    coarse = fine.reshape(1, 64, 2, 64, 2, 3).mean((2, 4)).round().astype(np.uint8)
    assert sharpness(fine, 0.5) == pytest.approx(sharpness(coarse, 1.0), rel=0.05)
    assert sharpness(fine, 0.5) > 2 * MIN_SHARPNESS


def test_a_field_amid_blurred_ones_is_blurred_and_one_beside_them_is_not(tmp_path: Path) -> None:
    slide = ArraySlide(stained_picture(1024, 1024))
    fields = plan_fields(slide, find_tissue(slide), field_um=64.0, min_tissue=0.1)
    status = np.full(len(fields), Status.OK, np.uint8)
    status[fields.col < 4] = Status.BLURRED  # half of the slide ...
    status[(fields.col == 1) & (fields.row == 3)] = Status.OK  # ... but for one
    status[(fields.col == 6) & (fields.row == 3)] = Status.BLURRED  # and one elsewhere
    amid = amid_blur(fields, status)
    assert list(zip(fields.row[amid], fields.col[amid], strict=True)) == [(3, 1)]
