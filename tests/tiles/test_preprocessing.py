"""The preprocessing that a model carries gives the same pixels again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tile_fakes import ArraySlide, on_glass

from wsi_anomaly.core.errors import NoTissueError, StainError, TileStoreError, UsageError
from wsi_anomaly.slides import find_tissue
from wsi_anomaly.stain import StainProfile, reference_target
from wsi_anomaly.tiles import Preprocessing, TileConfig, plan_fields, read_fields
from wsi_anomaly.tiles.preprocessing import sample_tissue

OTHER_TARGET = StainProfile([[0.6, 0.8, 0.0], [0.0, 0.96, 0.28]], (1.0, 1.0))
VARIANTS = {
    "default": Preprocessing(),
    "macenko": Preprocessing(stain="macenko"),
    "none": Preprocessing(stain="none"),
    "target": Preprocessing(target=OTHER_TARGET),
    "no match": Preprocessing(match_maxima=False),
    "per tile": Preprocessing(per_tile=True),
    "as the paper": Preprocessing(per_tile=True, match_maxima=False, min_tissue=1.0),
    "staintools": Preprocessing(engine="staintools"),
}


@pytest.fixture(scope="module")
def slide() -> ArraySlide:
    return ArraySlide(on_glass((768, 896), (128, 128, 640, 768)))


def tiles_of(slide: ArraySlide, preprocessing: Preprocessing) -> np.ndarray:
    tissue = find_tissue(slide)
    fields = plan_fields(slide, tissue, field_um=64, min_tissue=1.0, max_tiles=4)
    batches = read_fields(
        slide, fields, magnification=10, tile_size=64,
        preprocess=preprocessing.for_slide(slide, tissue),
    )  # fmt: skip
    return np.concatenate([images for _, images, _ in batches])


@pytest.mark.parametrize("name", VARIANTS)
def test_what_json_carries_gives_the_same_pixels(slide: ArraySlide, name: str) -> None:
    if name == "staintools":
        pytest.importorskip("staintools", reason="the extra 'staintools' is not installed")
    preprocessing = VARIANTS[name]
    again = Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict())))
    assert again == preprocessing
    np.testing.assert_array_equal(tiles_of(slide, preprocessing), tiles_of(slide, again))


def test_every_option_changes_the_pixels(slide: ArraySlide) -> None:
    pytest.importorskip("staintools", reason="the extra 'staintools' is not installed")
    tiles = {name: tiles_of(slide, VARIANTS[name]) for name in VARIANTS}
    different = {images.tobytes() for images in tiles.values()}
    assert len(different) == len(tiles)
    assert all((images.max(-1) > 0).all() for images in tiles.values())


def test_staintools_gives_nearly_the_same_picture(slide: ArraySlide) -> None:
    pytest.importorskip("staintools", reason="the extra 'staintools' is not installed")
    ours = tiles_of(slide, Preprocessing())
    theirs = tiles_of(slide, VARIANTS["staintools"])
    assert np.median(np.abs(ours.astype(int) - theirs)) <= 4  # it takes 255 for glass


def test_a_tile_without_two_stains_gets_those_of_its_slide(slide: ArraySlide) -> None:
    tissue = find_tissue(slide)
    one_colour = np.full((1, 64, 64, 3), (200, 120, 180), np.uint8)
    per_tile = Preprocessing(per_tile=True).for_slide(slide, tissue)(one_colour)
    np.testing.assert_array_equal(per_tile, Preprocessing().for_slide(slide, tissue)(one_colour))


def test_none_leaves_pixels_alone(slide: ArraySlide) -> None:
    preprocess = Preprocessing(stain="none").for_slide(slide, find_tissue(slide))
    pixels = slide.image[200:264, 200:264]
    assert preprocess.stain is None
    np.testing.assert_array_equal(preprocess(pixels), pixels)


def test_damaged_parts_are_left_out_of_the_sample() -> None:
    image = on_glass((768, 896), (128, 128, 640, 768))
    whole, damaged = ArraySlide(image), ArraySlide(image, damaged=(0, 0, 400, 768))
    tissue = find_tissue(whole)
    assert 2000 < len(sample_tissue(damaged, tissue)) < len(sample_tissue(whole, tissue))
    with pytest.raises(NoTissueError, match="cannot be read"):
        sample_tissue(ArraySlide(image, damaged=(0, 0, 896, 768)), tissue)


def test_a_slide_of_one_stain_is_refused_with_the_remedy() -> None:
    image = np.full((768, 896, 3), 243, np.uint8)
    image[128:640, 128:768] = (230, 120, 190)
    slide = ArraySlide(image)
    with pytest.raises(StainError, match="--stain none"):
        Preprocessing().for_slide(slide, find_tissue(slide))


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {**Preprocessing().to_dict(), "version": 99},
        {**Preprocessing().to_dict(), "stain": "reinhard"},
        {**Preprocessing().to_dict(), "engine": "gpu"},
        {**Preprocessing().to_dict(), "target": None},
        {**Preprocessing().to_dict(), "min_tissue": "much"},
    ],
)
def test_what_cannot_be_repeated_is_refused(broken: dict) -> None:
    with pytest.raises(TileStoreError):
        Preprocessing.from_dict(broken)


CHANGES = {
    "magnifications": (10, 20), "tile_size": 32, "stride": 32, "max_tiles": None, "min_tissue": 0.6,
    "stain": "macenko", "engine": "staintools", "per_tile": True, "match_maxima": False,
    "target": OTHER_TARGET, "labels": ("Tumour",), "seed": 1, "compression": "jpeg",
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_the_hash_follows_every_option(name: str) -> None:
    config = TileConfig(**{name: CHANGES[name]})
    assert config.hash != TileConfig().hash
    again = TileConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.hash == config.hash


@pytest.mark.parametrize(
    "wrong",
    [
        {"magnifications": ()}, {"magnifications": (5,)}, {"tile_size": 4}, {"stride": 0},
        {"max_tiles": 0}, {"min_tissue": 1.5}, {"stain": "reinhard"}, {"engine": "gpu"},
        {"labels": ("Tumour", " ")}, {"stain": "none", "target": reference_target()},
        {"compression": "png"},
    ],
)  # fmt: skip
def test_an_option_that_makes_no_sense_is_wrong_usage(wrong: dict) -> None:
    with pytest.raises(UsageError):
        TileConfig(**wrong)
