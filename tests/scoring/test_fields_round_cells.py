"""Fields of any size round a cell: the same embedding wherever it is made, and what is left out."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from wsi_anomaly.calibration.shift import AXIS
from wsi_anomaly.core.errors import NoTissueError, UsageError
from wsi_anomaly.detectors import Density, DensityConfig, Model
from wsi_anomaly.features import load_features
from wsi_anomaly.features.dense import DenseMaps
from wsi_anomaly.options import ScoreOptions
from wsi_anomaly.scoring import score_slide
from wsi_anomaly.scoring.embedding import embed_cells
from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import (
    Status,
    TileConfig,
    TileStore,
    plan_fields,
    read_fields,
    tile_slide,
)
from wsi_anomaly.tiles.plane import SlidePlane
from wsi_anomaly.training.fields import embed_stores
from wsi_anomaly.training.normals import NormalSlide, score_normal_slide

SIZES = (64, 192)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fields") / "normal.tif"
    make_slide(path, seed=7, size_px=(1600, 1400), mpp=0.5)
    return path


@pytest.fixture(scope="module")
def store(drawn: Path) -> TileStore:
    return TileStore.open(tile_slide(drawn, drawn.parent, TileConfig(max_tiles=4)).path)


@pytest.fixture(scope="module")
def model(store: TileStore) -> Model:
    network = load_features("compact")
    density = Density(network, DensityConfig(("c3",), estimator="directional", fields_um=SIZES))
    found = embed_stores([store], 10, DenseMaps(network, ["c3"]), SIZES, most=10_000)[:2]
    return Model(
        "m",
        10,
        64,
        store.preprocessing.to_dict(),
        {"density": density.fit_fields(*found)},
        "density",
    )


def embedded(plane, cells, model, **options) -> dict[tuple[int, int], np.ndarray]:
    found = {}
    for part in embed_cells(plane, cells, model.dense_maps(), model.fields_um, **options):
        for i, index in enumerate(part.indices.tolist()):
            place = int(cells.row[index]), int(cells.col[index])
            assert place not in found
            found[place] = np.concatenate([part.embeddings[um][i] for um in SIZES])
    return found


def test_a_field_has_one_embedding_in_train_and_in_score(drawn, store, model) -> None:
    learned = embedded(*store.plane(10), model)
    with open_slide(drawn) as slide:
        tissue = find_tissue(slide)
        plane = SlidePlane(slide, tissue, 10, store.preprocessing.for_slide(slide, tissue))
        cells = plan_fields(slide, tissue, field_um=64.0, min_tissue=0.1)
        scored = embedded(plane, cells, model)
    assert len(learned) > 50
    assert learned.keys() <= scored.keys()
    first = np.stack([learned[place] for place in learned])
    second = np.stack([scored[place] for place in learned])
    assert np.abs(first - second).max() < 1e-3 * first.std()


def test_some_cells_alone_have_the_embedding_that_they_have_among_all(store, model) -> None:
    plane, cells = store.plane(10)
    every = embedded(plane, cells, model)
    wanted = np.zeros(len(cells), bool)
    wanted[::17] = True
    some = embedded(plane, cells, model, wanted=wanted)
    assert len(some) == wanted.sum()
    for place, embedding in some.items():
        np.testing.assert_allclose(embedding, every[place], atol=1e-4)


def test_calibration_and_score_give_a_slide_the_same_scores(drawn, model) -> None:
    _, found = score_normal_slide(NormalSlide(drawn, "c"), model)
    score_map = score_slide(drawn, model)
    known = score_map.assessed
    places = list(zip(score_map.fields.row[known], score_map.fields.col[known], strict=True))
    scores = dict(zip(places, score_map.score[known], strict=True))
    calibrated = found["density"]
    own = dict(zip(zip(calibrated.row, calibrated.col, strict=True), calibrated.score, strict=True))
    assert own.keys() == scores.keys()
    assert own == pytest.approx(scores, abs=1e-4)


def test_results_are_of_cells_one_stride_wide(drawn, model) -> None:
    score_map = score_slide(drawn, model, ScoreOptions(stride_um=32.0))
    assert score_map.fields.field_um == score_map.settings["stride_um"] == 32.0
    assert score_map.field_mm2 == pytest.approx(0.032**2, rel=1e-6)


def test_another_stride_than_that_of_the_reference_flags_nothing(drawn, model) -> None:
    found = score_slide(drawn, model, ScoreOptions(stride_um=32.0)).interpretation
    assert not found.can_flag
    assert "cells of 32 um" in found.operating_point.reason
    assert "cells of 64 um" in found.operating_point.reason


def test_a_stride_between_pixels_is_refused(drawn, model) -> None:
    with pytest.raises(UsageError, match=r"50\.5 um is no whole number of pixels at 10x"):
        score_slide(drawn, model, ScoreOptions(stride_um=50.5))


def test_a_slide_whose_fields_all_have_too_little_tissue_is_one_sentence(tmp_path, model) -> None:
    make_slide(tmp_path / "s.tif", seed=3, size_px=(512, 512), mpp=0.5)
    # A field of 192 um reaches beyond a slide of 256 um: never is all of it tissue.
    with pytest.raises(NoTissueError, match="at least 100% tissue"):
        score_slide(tmp_path / "s.tif", model, ScoreOptions(min_tissue=1.0))


def test_a_model_saved_and_loaded_scores_alike(tmp_path, drawn, model) -> None:
    model.save(tmp_path / "model")
    again = Model.load(tmp_path / "model")
    assert again.fields_um == SIZES
    assert again.tile_methods == ()
    np.testing.assert_allclose(
        score_slide(drawn, again).score, score_slide(drawn, model).score, atol=1e-3
    )


def test_fields_with_less_than_the_least_tissue_are_none(drawn, model) -> None:
    few = score_slide(drawn, model, ScoreOptions(min_tissue=0.9))
    many = score_slide(drawn, model, ScoreOptions(min_tissue=0.1))
    assert 0 < len(few.fields) < len(many.fields)
    assert np.isfinite(few.score[few.status == Status.OK]).all()


sys.path.insert(0, str(Path(__file__).parents[1] / "tiles"))


def test_damage_is_left_out_of_the_fields_round_it(model) -> None:
    from tile_fakes import ArraySlide, on_glass

    image = on_glass((1024, 1280))
    whole, damaged = (
        ArraySlide(image, mpp=(1.0, 1.0)),
        ArraySlide(image, mpp=(1.0, 1.0), damaged=(450, 450, 4, 4)),
    )
    tissue = find_tissue(whole)
    cells = plan_fields(whole, tissue, field_um=64.0)
    planes = [SlidePlane(slide, tissue, 10) for slide in (whole, damaged)]
    first, second = (embedded(plane, cells, model) for plane in planes)
    assert first.keys() - second.keys() == {(7, 7)}
    # A neighbour's large field loses one of nine squares: it changes, but is there.
    assert np.isfinite(second[7, 8]).all()
    assert not np.allclose(first[7, 8], second[7, 8], atol=1e-4)


def test_tissue_at_the_right_and_lower_border_is_judged(tmp_path, model) -> None:
    """A strip of 40 um of the last column lies on the slide, and 20 um of the last row."""
    from tile_fakes import stained_picture, write_slide

    path = write_slide(tmp_path / "s.tif", stained_picture(980, 1000), mpp=1.0)
    score_map = score_slide(path, model)
    fields = score_map.fields
    last = (fields.col == 15) | (fields.row == 15)
    assert last.sum() == 31
    assert score_map.assessed[last].all()
    none_wanted = score_slide(path, model, ScoreOptions(min_tissue=0.4))
    assert none_wanted.fields.row.max() == 14
    assert none_wanted.not_assessed_mm2() == pytest.approx({"sparse": 0.020}, abs=0.002)


def test_a_tile_at_the_border_is_read_and_not_taken_for_damage(tmp_path) -> None:
    from tile_fakes import stained_picture, write_slide

    path = write_slide(tmp_path / "s.tif", stained_picture(980, 1000), mpp=1.0)
    with open_slide(path) as slide:
        fields = plan_fields(slide, find_tissue(slide), field_um=64.0, min_tissue=0.1)
        for indices, images, status in read_fields(slide, fields, magnification=10, tile_size=64):
            assert (status == Status.OK).all()
            corner = images[indices == len(fields) - 1][0]
            assert (corner[20:] == 255).all()
            assert (corner[:, 40:] == 255).all()
            assert (corner[:20, :40] < 250).any()


def test_a_slide_has_one_place_in_the_space_of_its_fields(model: Model, drawn: Path) -> None:
    """For scoring and calibration alike: batches of slides are compared by it."""
    scored = score_slide(drawn, model).measured
    axes = [name for name in scored if name.startswith(AXIS)]
    assert axes == [f"{AXIS}{i}" for i in range(1, 9)]
    _, normal = score_normal_slide(NormalSlide(drawn, "n"), model)
    assert normal["density"].measured == pytest.approx(scored)
