"""What ``compact`` learns from: seeded crops, images held out, nothing of a source left out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from corpus_folder import IMAGES, make_corpus_folder

import corpus
from corpus import SOURCES, augment, read_corpus
from wsi_anomaly.core.errors import UsageError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus_folder(tmp_path_factory.mktemp("data"))


def levels(crops: torch.Tensor) -> set[int]:
    """Which images the crops came from (grey level 4 + 10 i)."""
    return {round((float(crop.mean()) - 4) / 10) for crop in crops}


def test_held_out_images_are_never_learnt_from(folder: Path) -> None:
    learn, unseen = read_corpus(folder)
    assert [len(images) for images in unseen.images] == [2] * len(SOURCES)
    assert [len(images) for images in learn.images] == [IMAGES - 2] * len(SOURCES)
    assert levels(unseen.crops(200, (0,))) == {0, 20}
    assert levels(learn.crops(1000, (0,))) == set(range(IMAGES)) - {0, 20}


def test_a_benchmarks_test_images_are_no_source(folder: Path) -> None:
    cifar = [source.name for source in SOURCES].index("cifar10")
    learn, unseen = read_corpus(folder)
    every = [*learn.images[cifar], *unseen.images[cifar]]
    assert len(every) == IMAGES
    assert all(image.getpixel((0, 0))[1] > 0 for image in every), "the red one is a test image"


def test_crops_depend_on_the_seed_alone(folder: Path) -> None:
    learn, _ = read_corpus(folder)
    one, two = learn.crops(16, (1, 2)), read_corpus(folder)[0].crops(16, (1, 2))
    assert one.shape == (16, 3, 64, 64)
    assert one.dtype == torch.float32
    assert torch.equal(one, two)
    assert not torch.equal(one, learn.crops(16, (1, 3)))


def test_a_source_left_out_is_not_even_opened(folder: Path, tmp_path: Path) -> None:
    other = make_corpus_folder(tmp_path)
    chest = next(source for source in SOURCES if source.name == "chest")
    for file in (other / chest.path).iterdir():
        file.write_bytes(b"not an image")
    learn, _ = read_corpus(other, leave_out=["chest"])
    assert "chest" not in [source.name for source in learn.sources]
    assert learn.crops(64, (0,)).shape == (64, 3, 64, 64)


def test_wrong_sources_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="slides, glas, oral, lung, cifar10, chest"):
        read_corpus(folder, leave_out=["liver"])
    with pytest.raises(UsageError, match="not all"):
        read_corpus(folder, leave_out=[source.name for source in SOURCES])
    with pytest.raises(UsageError, match="does not exist"):
        read_corpus(tmp_path)
    broken = make_corpus_folder(tmp_path / "broken")
    (broken / SOURCES[1].path / "00.png").write_bytes(b"not an image")
    with pytest.raises(UsageError, match=r"00\.png is no readable image"):
        read_corpus(broken)


def test_augmentation_is_seeded_and_stays_in_range(folder: Path) -> None:
    crops = read_corpus(folder)[0].crops(32, (0,))
    one = augment(crops, 7)
    assert one.shape == crops.shape
    assert float(one.min()) >= 0
    assert float(one.max()) <= 255
    assert torch.equal(one, augment(crops, 7))
    assert not torch.equal(one, augment(crops, 8))


def test_stain_changes_leave_white_nearly_white() -> None:
    """Glass has no dye: whatever the stain, it stays bright."""
    white = torch.full((64, 3, 8, 8), 255.0)
    assert float(augment(white, 0).mean((1, 2, 3)).min()) > 250


def test_real_sources_are_read(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "SLIDES", ("cmu1_small_region.svs",))
    rest = [source.name for source in SOURCES if source.name not in ("slides", "chest")]
    learn, unseen = read_corpus(real_data, leave_out=rest)
    assert [source.name for source in learn.sources] == ["slides", "chest"]
    assert len(learn.images[1]) + len(unseen.images[1]) == 500
    slides = [*learn.images[0], *unseen.images[0]]
    # 2220 x 2967 px in regions of at most 1024; glass is left out.
    assert 2 <= len(slides) <= 9
    assert all(max(region.size) <= 1024 for region in slides)
    assert float(learn.crops(64, (0,)).std()) > 20
