"""``wsi-anomaly preview`` of a slide: what the rules keep and drop, before any tiling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from cli_running import run_cli
from PIL import Image
from scipy.ndimage import gaussian_filter
from scoring_fakes import make_slide

from wsi_anomaly.slides import open_slide
from wsi_anomaly.tiles.fields import Status
from wsi_anomaly.tiles.picture import STATUS_COLOURS
from wsi_anomaly.tiles.rules_picture import rules_picture


@pytest.fixture(scope="module")
def marked(tmp_path_factory) -> Path:
    """Sharp tissue on the right, blurred on the left, a stroke of a pen, and black not scanned."""
    path = make_slide(tmp_path_factory.mktemp("marked") / "scan.tif", lesion=False)
    image = tifffile.imread(path).copy()
    soft = gaussian_filter(image[128:896, 128:448].astype(float), (4, 4, 0))
    image[128:896, 128:448] = np.clip(soft, 0, 255)
    image[60:960, 900:960] = (20, 100, 220)
    image[960:] = 0
    tifffile.imwrite(
        path, image, tile=(256, 256), photometric="rgb", compression="jpeg",
        resolution=(1e4, 1e4), resolutionunit="CENTIMETER",
    )  # fmt: skip
    return path


def test_areas_add_up_to_the_tissue(marked):
    with open_slide(marked) as slide:
        picture, areas = rules_picture(slide)
    assert picture.width >= 700
    # 1024 x 768 um of tissue; the stroke is 60 um wide there, and 132 um of it lie beyond.
    tissue = sum(areas.values()) - 0.06 * 0.132
    assert tissue == pytest.approx(1.024 * 0.768, rel=0.05)
    assert areas["pen"] == pytest.approx(0.06 * 0.9, rel=0.25)
    assert 0.1 < areas["blurred"] < 0.33 * 0.768  # what is flat there is not told
    assert areas["kept"] > 0.4


def test_each_rule_has_its_colour_where_it_holds(marked):
    with open_slide(marked) as slide:
        picture = np.asarray(rules_picture(slide)[0].convert("RGB")).astype(int)
        ground = slide.thumbnail(1000).astype(int)
    k = 1000 / 1280
    for (x, y), status in (
        ((256, 512), Status.BLURRED),
        ((700, 512), Status.OK),
        ((930, 512), Status.PEN),
    ):
        here = np.s_[round(y * k) - 8 : round(y * k) + 8, round(x * k) - 8 : round(x * k) + 8]
        shown, was = picture[here].mean((0, 1)), ground[here].mean((0, 1))
        towards = np.array(STATUS_COLOURS[status]) - was
        assert (shown - was) @ towards > 0.05 * towards @ towards, status
    glass = np.s_[round(30 * k) : round(50 * k), round(30 * k) : round(50 * k)]
    np.testing.assert_allclose(picture[glass], ground[glass], atol=12)


def test_slides_and_folders_of_slides_are_drawn_and_named(here, marked):
    assert run_cli("preview", marked)[0] == 0
    assert (here / "scan.preview.png").is_file()
    (here / "slides").mkdir()
    make_slide(here / "slides" / "scan.tif")
    code, said = run_cli("preview", marked, here / "slides", "-o", "pictures", "--mpp", 1.0)
    assert code == 0, said
    assert {p.name for p in Path("pictures").iterdir()} == {
        "scan.preview.png",
        "scan-2.preview.png",
    }
    assert "mm2: kept" in said
    assert "pen" in said
    with Image.open("pictures/scan.preview.png") as picture:
        assert picture.format == "PNG"


def test_what_is_no_slide_or_says_no_pixel_size_is_one_sentence(here):
    (here / "broken.tif").write_bytes(b"II*\0")
    tifffile.imwrite(here / "unsized.tif", np.full((300, 300, 3), 200, np.uint8), tile=(256, 256))
    code, said = run_cli("preview", "broken.tif", "unsized.tif")
    assert code == 1
    assert said.count("Error: ") == 2
    assert "--mpp" in said
    assert not list(here.glob("*.png"))
