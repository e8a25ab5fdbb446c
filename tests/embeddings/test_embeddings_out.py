"""Our own embeddings are written as TRIDENT writes its, and read back give the same scores."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

import wsi_anomaly
from wsi_anomaly.core.errors import EmbeddingsError
from wsi_anomaly.results.stored_scores import StoredScores
from wsi_anomaly.synthetic import make_slide


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide, a model of it, its result, and its embeddings beside that."""
    folder = tmp_path_factory.mktemp("out")
    make_slide(folder / "normal.tif", seed=1, size_px=(2048, 1536), mpp=0.5)
    make_slide(folder / "new.tif", seed=2, size_px=(2048, 1536), mpp=0.5)
    wsi_anomaly.tile([folder / "normal.tif"], folder / "tiles", magnifications=(10,))
    wsi_anomaly.train(folder / "tiles", folder / "model", detector="density")
    wsi_anomaly.score(
        [folder / "new.tif"], folder / "model", folder / "results", embeddings_out=folder / "out"
    )
    return folder


def scores_by_place(folder: Path) -> dict[tuple[int, int], float]:
    stored = StoredScores.read(folder)
    first = stored.fields.row.min(), stored.fields.col.min()
    places = zip((stored.fields.row - first[0]).tolist(), (stored.fields.col - first[1]).tolist(),
                 strict=True)  # fmt: skip
    scores = zip(places, stored.score.tolist(), strict=True)
    return {place: score for place, score in scores if np.isfinite(score)}


def test_they_are_laid_out_as_tridents_are(here: Path) -> None:
    with h5py.File(here / "out" / "new.h5") as file:
        features, coords = file["features"], file["coords"]
        assert features.dtype == np.float32
        assert features.shape[0] == coords.shape[0] == len(scores_by_place(here / "results/new"))
        assert coords.attrs["patch_size"] == 256
        assert coords.attrs["target_magnification"] == 10
        assert coords.attrs["level0_magnification"] == 20
        assert coords.attrs["patch_size_level0"] == 512
        assert coords.attrs["overlap"] == 192
        assert (coords.attrs["level0_width"], coords.attrs["level0_height"]) == (2048, 1536)
        assert features.attrs["encoder"].startswith("wsi-anomaly lite0 ")


@pytest.mark.parametrize("with_slide", [True, False])
def test_read_back_they_give_equal_scores(here: Path, tmp_path: Path, with_slide: bool) -> None:
    slides = [here / "new.tif"] if with_slide else []
    wsi_anomaly.score(slides, here / "model", tmp_path / "again", embeddings=here / "out")
    first, again = scores_by_place(here / "results/new"), scores_by_place(tmp_path / "again/new")
    assert first.keys() == again.keys()
    assert np.allclose(
        [first[place] for place in sorted(first)], [again[place] for place in sorted(first)],
        rtol=1e-4, atol=1e-4,
    )  # fmt: skip


def test_a_file_that_went_is_written_again(here: Path, tmp_path: Path) -> None:
    def score() -> int:
        wsi_anomaly.score(
            [here / "new.tif"], here / "model", tmp_path / "r", embeddings_out=tmp_path / "o"
        )
        return (tmp_path / "r/new/summary.json").stat().st_mtime_ns

    first = score()
    assert score() == first
    (tmp_path / "o" / "new.h5").unlink()
    assert score() > first
    assert (tmp_path / "o" / "new.h5").is_file()


def test_without_a_model_there_are_none(here: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EmbeddingsError, match="does not rank by embeddings"):
        wsi_anomaly.score([here / "new.tif"], None, "r", embeddings_out="o")


def test_the_summary_says_which_embeddings_were_scored(here: Path, tmp_path: Path) -> None:
    wsi_anomaly.score([], here / "model", tmp_path / "r", embeddings=here / "out")
    settings = json.loads((tmp_path / "r/new/summary.json").read_text())["settings"]
    assert len(settings["embeddings"]) == 16
