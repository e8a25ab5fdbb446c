"""Results as tables: what pandas and AnnData read is what the results say."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from score_map_fakes import fake_calibration, fake_score_map

import wsi_anomaly
from wsi_anomaly.cli.main import main
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.embeddings import find_embeddings
from wsi_anomaly.results.arrays import write_zarr
from wsi_anomaly.results.export import export_results
from wsi_anomaly.results.geojson import write_geojson
from wsi_anomaly.results.review_matching import regions_of
from wsi_anomaly.results.reviews import Review, append_review
from wsi_anomaly.results.stored_scores import StoredScores
from wsi_anomaly.results.summary import FORMAT, VERSION
from wsi_anomaly.scoring import ScoreMap

pytest.importorskip("anndata", reason="the extra 'export' is not installed")
import anndata
import pandas as pd

FINGERPRINTS = {"s0": "a" * 16, "s1": "b" * 16}


@pytest.fixture(scope="module")
def maps() -> dict[str, ScoreMap]:
    calibration = fake_calibration()
    return {
        "s0": fake_score_map(0, shape=(20, 20), lesions=2, calibration=calibration),
        "s1": fake_score_map(1, shape=(15, 30), lesions=0, calibration=None),
    }


@pytest.fixture
def results(maps: dict[str, ScoreMap], tmp_path: Path) -> Path:
    for name, score_map in maps.items():
        folder = tmp_path / "results" / name
        write_zarr(folder / "scores.zarr", score_map)
        summary = {
            "format": FORMAT, "version": VERSION, "status": "done", "result_hash": "r" * 64,
            "slide": {
                "path": f"/slides/{name}.tif", "fingerprint": FINGERPRINTS[name],
                "size_px": [9000, 9000], "mpp": [0.25, 0.25], "bounds": [0, 0, 9000, 9000],
            },
            "slide_score": 3.5, "slide_percentile": None, "verdict": "",
            "flagged": {"regions": 0, "threshold": 2.0, "area_mm2": 0.1},
            "tissue_mm2": 1.5, "not_assessed_mm2": 0.0,
            "model": {"hash": "m" * 64, "methods": list(score_map.scores)},
        }  # fmt: skip
        (folder / "summary.json").write_text(json.dumps(summary))
    return tmp_path / "results"


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_each_field_has_its_place_its_scores_and_what_they_mean(
    results: Path, maps: dict[str, ScoreMap], tmp_path: Path, kind: str
) -> None:
    made = export_results(results, tmp_path / "tables", kind)
    read = pd.read_parquet if kind == "parquet" else pd.read_csv
    fields, regions, slides = (read(path) for path in made.files)

    assert (made.slides, made.problems) == (2, [])
    assert made.fields == len(fields) == sum(len(m.fields) for m in maps.values())
    for name, score_map in maps.items():
        mine = fields[fields["slide"] == name]
        found = score_map.interpretation
        assert (mine[["x", "y"]].to_numpy() == score_map.fields.coords).all()
        for method, score in score_map.scores.items():
            np.testing.assert_allclose(mine[f"score_{method}"], score, rtol=1e-6)
        np.testing.assert_allclose(mine["smoothed"], found.smoothed, rtol=1e-6)
        assert (mine["flagged"].to_numpy() == found.flagged).all()
        if found.percentile is None:
            assert mine["percentile"].isna().all()
            assert set(mine["class"]) <= {"Not calibrated", "Not assessed"}
        else:
            np.testing.assert_allclose(mine["percentile"], found.percentile, rtol=1e-6)
        # A region's number is that of its row, and its fields are those that carry it.
        counts = mine[mine["region"] > 0].groupby("region").size()
        own = regions[regions["slide"] == name].set_index("region")
        assert counts.to_dict() == own["fields"].to_dict()
    outlines = shapely.from_wkt(regions["outline_wkt"])
    assert [r.area for r in outlines] == pytest.approx(
        [r.outline.area for r in maps["s0"].interpretation.regions]
    )
    assert list(slides["path"]) == ["/slides/s0.tif", "/slides/s1.tif"]
    assert slides["slide_percentile"].isna().all()


def test_what_was_taken_away_has_its_class_as_in_qupath(
    results: Path, maps: dict[str, ScoreMap], tmp_path: Path
) -> None:
    found = maps["s0"].interpretation
    gone = found.regions[0]
    flagged = found.flagged.copy()
    flagged[gone.fields] = False
    less = replace(
        maps["s0"],
        interpretation=replace(
            found, flagged=flagged, regions=found.regions[1:], taken_away=((gone, "follicle"),)
        ),
    )
    write_zarr(results / "s0" / "scores.zarr", less)
    fields = pd.read_parquet(export_results(results, tmp_path / "tables").files[0])
    kinds = fields[fields["slide"] == "s0"]["class"].to_numpy()
    assert set(kinds[gone.fields]) == {"Taken away"}
    assert "Taken away" not in set(np.delete(kinds, gone.fields))
    overlay = json.loads(write_geojson(tmp_path, less).read_text())["features"]
    tiles = [f["properties"] for f in overlay if f["properties"]["objectType"] == "tile"]
    assert [tile["classification"]["name"] for tile in tiles] == kinds.tolist()


def test_reviews_stand_beside_regions_and_their_fields(results: Path, tmp_path: Path) -> None:
    regions = regions_of(StoredScores.read(results / "s0"))
    verdicts = {"ann": ["normal variant", "artefact"], "bob": ["abnormal", "artefact"]}
    for reader, said in verdicts.items():
        for region, verdict in zip(regions, said, strict=False):
            append_review(
                results,
                Review(reader, "s0", "a" * 16, verdict, region.outline, finding="follicle"),
            )
    made = export_results(results, tmp_path / "tables")
    fields, found = (pd.read_parquet(path) for path in made.files[:2])
    assert list(found["review"])[:2] == ["readers differ", "artefact"]
    assert found["readers"][0] == "ann: normal variant; bob: abnormal"
    assert found["findings"][0] == "follicle"
    mine = fields[fields["region"] == 2]
    assert set(mine["review"]) == {"artefact"}
    assert set(fields[fields["region"] == 0]["review"]) == {""}


def test_scanpy_finds_scores_places_and_classes(
    results: Path, maps: dict[str, ScoreMap], tmp_path: Path
) -> None:
    made = export_results(results, tmp_path / "tables", "anndata")
    assert [path.name for path in made.files] == ["fields.h5ad"]
    found = anndata.read_h5ad(made.files[0])
    assert found.n_obs == made.fields
    assert found.obs_names.is_unique
    assert set(found.var_names) == {m for s in maps.values() for m in s.scores}
    assert found.obsm["spatial"].shape == (made.fields, 2)
    f, mpp = maps["s0"].fields, maps["s0"].slide.mpp
    assert found.obsm["spatial"][0, 0] == pytest.approx(
        (f.coords[0, 0] + f.field_level0[0] / 2) * mpp.x
    )
    assert found.obs["class"].dtype == "category"


def test_a_damaged_slide_is_named_and_the_others_are_exported(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (results / "s0" / "scores.zarr" / ".zgroup").unlink()
    (results / "s0" / "scores.zarr" / "tiles" / ".zgroup").unlink()
    out = tmp_path / "tables"
    assert main(["export", str(results), "--to", "csv", "-o", str(out)]) == 1
    said = capsys.readouterr().err
    assert "scores.zarr is missing or damaged" in said
    assert "1 slide," in said
    assert set(pd.read_csv(out / "fields.csv")["slide"]) == {"s1"}


def test_nothing_half_written_is_left(results: Path, tmp_path: Path) -> None:
    for name in FINGERPRINTS:
        (results / name / "scores.zarr" / "tiles" / ".zgroup").unlink()
    for kind in ("parquet", "csv", "anndata"):
        code = main(["export", str(results), "--to", kind, "-o", str(tmp_path / "tables"), "-q"])
        assert code != 0
    assert not list((tmp_path / "tables").iterdir())


def test_what_is_missing_is_said_in_one_sentence(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="holds no results"):
        export_results(tmp_path / "nowhere", tmp_path / "tables")
    with pytest.raises(UsageError, match="anndata, spatialdata, not 'xlsx'"):
        export_results(results, tmp_path / "tables", "xlsx")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r'needs pyarrow.*pip install "wsi-anomaly\[export\]"'):
        export_results(results, tmp_path / "tables")


def test_a_store_of_spatialdata_has_fields_regions_and_what_scores_mean(
    results: Path, maps: dict[str, ScoreMap], tmp_path: Path
) -> None:
    """SpatialData and LazySlide themselves open it in ``make check-ecosystem``."""
    made = export_results(results, tmp_path / "stores", "spatialdata")
    assert [path.name for path in made.files] == ["s0.zarr", "s1.zarr"]
    for name, score_map in maps.items():
        store = tmp_path / "stores" / f"{name}.zarr"
        table = anndata.io.read_zarr(store / "tables" / "anomaly_fields")
        scores = score_map.scores[score_map.primary]
        np.testing.assert_allclose(table[:, score_map.primary].X.ravel(), scores, rtol=1e-6)
        assert (table.obs["flagged"].to_numpy() == score_map.interpretation.flagged).all()
        assert table.uns["spatialdata_attrs"]["region"] == "fields"
        squares = pd.read_parquet(store / "shapes" / "fields" / "shapes.parquet")
        bounds = shapely.bounds(shapely.from_wkb(squares["geometry"]))
        np.testing.assert_allclose(bounds[:, :2], score_map.fields.coords)
        outlines = store / "shapes" / "regions" / "shapes.parquet"
        assert outlines.exists() == bool(score_map.interpretation.regions)


def test_a_store_is_read_as_lazyslides_are(
    results: Path, maps: dict[str, ScoreMap], tmp_path: Path
) -> None:
    export_results(results, tmp_path / "stores", "spatialdata")
    with find_embeddings(tmp_path / "stores").files["s0"].open() as found:
        assert np.array_equal(found.coords, maps["s0"].fields.coords)
        assert found.slide_size == (9000, 9000)


def test_results_are_dataframes(results: Path, maps: dict[str, ScoreMap]) -> None:
    found = wsi_anomaly.Results(results)
    fields = found.to_dataframe()
    assert len(fields) == sum(len(m.fields) for m in maps.values())
    assert set(fields["slide"].cat.categories) == set(found.slides) == {"s0", "s1"}
    assert len(found.to_dataframe("slides")) == 2
    assert len(found.to_dataframe("regions")) == len(maps["s0"].interpretation.regions)
    with pytest.raises(UsageError, match="tables are fields, regions, slides"):
        found.to_dataframe("cells")
    with pytest.raises(UsageError, match="holds no results"):
        wsi_anomaly.Results(results / "s0" / "nothing")
