"""CZI files that OpenSlide does not take, through the extra pylibCZIrw; written by its writer."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsi_anomaly.core.errors import NotASlideError
from wsi_anomaly.slides import open_slide
from wsi_anomaly.slides.opening import slide_fingerprint

czi = pytest.importorskip("pylibCZIrw.czi")

PIXELS = np.random.default_rng(0).integers(0, 255, (512, 768, 3)).astype(np.uint8)
SMALL = PIXELS[:256, :256]


def write(
    path: Path, *scenes: tuple[np.ndarray, tuple[int, int]], planes: int = 1, **more: Any
) -> Path:
    """A file of scenes, each at its corner, in pieces of 256 x 256."""
    with czi.create_czi(str(path), **more) as file:
        for number, (pixels, (x0, y0)) in enumerate(scenes):
            for plane in range(planes):
                for y in range(0, pixels.shape[0], 256):
                    for x in range(0, pixels.shape[1], 256):
                        piece = np.ascontiguousarray(pixels[y : y + 256, x : x + 256, ::-1])
                        where = {"C": 0, "Z": plane}
                        file.write(piece + plane, (x0 + x, y0 + y), where, scene=number)
        file.write_metadata(scale_x=0.5e-6, scale_y=0.25e-6)
    return path


@pytest.mark.parametrize("compression", ["uncompressed:", "zstd1:ExplicitLevel=2"])
def test_pixels_and_their_size(tmp_path: Path, compression: str) -> None:
    path = write(tmp_path / "a.czi", (PIXELS, (0, 0)), compression_options=compression)
    with open_slide(path) as slide:
        assert (slide.backend, slide.width, slide.height) == ("czi", 768, 512)
        assert (slide.mpp.x, slide.mpp.y, slide.mpp.source) == (0.5, 0.25, "CZI Scaling")
        assert slide.left_out == ()
        region = slide.read_level(0, 100, 200, 300, 150)
        assert np.array_equal(region.rgb, PIXELS[200:350, 100:400])
        assert region.coverage is None
        with pickle.loads(pickle.dumps(slide)) as again:
            assert np.array_equal(again.read_level(0, 0, 0, 768, 512).rgb, PIXELS)


def test_beyond_the_picture_and_in_its_gaps_nothing_was_scanned(tmp_path: Path) -> None:
    path = write(tmp_path / "a.czi", (SMALL, (0, 0)))
    with czi.create_czi(str(tmp_path / "gap.czi")) as file:
        for corner in ((0, 0), (400, 0)):
            file.write(np.ascontiguousarray(SMALL[..., ::-1]), corner, {"C": 0})
    with open_slide(path) as slide:
        region = slide.read_level(0, -10, 250, 20, 20)
        assert np.array_equal(region.rgb[:6, 10:], PIXELS[250:256, :10])
        assert region.coverage is not None
        assert region.coverage.sum() == 60
        assert (region.rgb[~region.coverage] == 255).all()
    with open_slide(tmp_path / "gap.czi", mpp=0.5) as slide:
        region = slide.read_level(0, 0, 0, 656, 256)
        assert region.coverage is not None
        assert not region.coverage[:, 256:400].any()
        assert region.coverage[:, 400:].all()


def test_the_largest_scene_is_the_slide_and_positions_count_from_its_corner(tmp_path: Path) -> None:
    path = write(tmp_path / "a.czi", (SMALL, (-300, 40)), (PIXELS, (2000, 100)), planes=3)
    with open_slide(path) as slide:
        assert np.array_equal(slide.read_level(0, 0, 0, 768, 512).rgb, PIXELS)
        assert slide.left_out == (
            "1 of 2 images of the file; scene 1 (256 x 256) is not looked at", "plane 1 of 3",
        )  # fmt: skip
    with open_slide(path, scene=1) as slide:
        assert np.array_equal(slide.read_level(0, 0, 0, 256, 256).rgb, SMALL)
    with pytest.raises(NotASlideError, match="no image 3, only 2"):
        open_slide(path, scene=3)


def test_what_is_no_stained_tissue_or_damaged_is_one_sentence(tmp_path: Path) -> None:
    with czi.create_czi(str(tmp_path / "grey.czi")) as file:
        file.write(np.zeros((64, 64, 1), np.uint16), (0, 0), {"C": 0})
    with pytest.raises(NotASlideError, match=r"its pixels are Gray16, no colours"):
        open_slide(tmp_path / "grey.czi")
    whole = write(tmp_path / "a.czi", (SMALL, (0, 0))).read_bytes()
    for length in (0, 100, 3000, len(whole) // 2):
        (tmp_path / "cut.czi").write_bytes(whole[:length])
        with pytest.raises(NotASlideError, match=r"cut\.czi .*\.$"):
            open_slide(tmp_path / "cut.czi")


def test_without_the_extra_the_sentence_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.czi", (SMALL, (0, 0)))
    monkeypatch.setitem(sys.modules, "pylibCZIrw", None)
    for scene in (None, 1):
        with pytest.raises(NotASlideError, match=r'pip install "wsi-anomaly\[czi\]"'):
            open_slide(path, scene=scene)


def test_its_identity_is_that_of_its_content(tmp_path: Path) -> None:
    one = write(tmp_path / "a.czi", (SMALL, (0, 0)))
    (tmp_path / "b.czi").write_bytes(one.read_bytes())
    assert slide_fingerprint(one) == slide_fingerprint(tmp_path / "b.czi")
