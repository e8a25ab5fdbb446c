"""One file of outlines lies at one place of its slide, whichever command reads it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import shapely
from cli_running import run_cli
from score_running import score, summary

sys.path.append(str(Path(__file__).parents[1] / "slides"))

from slide_files import sparse, stained

from wsi_anomaly.annotations import Outline, write_geojson
from wsi_anomaly.evaluation.folders import Result
from wsi_anomaly.evaluation.truth import Truth
from wsi_anomaly.results.reading import read_score_map
from wsi_anomaly.results.stored_scores import StoredScores
from wsi_anomaly.tiles import TileStore

CORNER = 256
DRAWN = shapely.box(256, 256, 768, 768)  # as QuPath counts: on the slide 256 px further


@pytest.fixture(scope="module")
def cropped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide that was scanned from (256, 256) on, and what was drawn on it in QuPath."""
    folder = tmp_path_factory.mktemp("cropped")
    image = np.full((1536, 1536, 3), 243, np.uint8)
    image[300:1500, 300:1500] = stained(1200, 1200)
    missing = {(row, column) for row in range(6) for column in range(6) if not (row and column)}
    sparse(folder / "off.tif", image, missing, resolution=(1e4, 1e4), resolutionunit="CENTIMETER")
    write_geojson(folder / "off.geojson", [Outline("Tumor", DRAWN)], "off")
    return folder


def scored_inside(folder: str | Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """Smallest and largest level-0 position of the fields of a result, but for masked tissue."""
    stored = StoredScores.read(folder)
    coords = stored.fields.coords[np.isfinite(stored.score)]
    side = round(stored.fields.field_level0[0])
    return tuple(coords.min(0).tolist()), tuple((coords.max(0) + side).tolist())


def lesion_of(folder: str | Path, outlines: Path) -> tuple[float, ...]:
    """Where ``evaluate`` sees the lesion of a result."""
    truth = Truth(annotations=outlines).of(Result.read(Path(folder)))
    assert truth is not None
    assert truth.lesions is not None
    return truth.lesions[0].bounds


def check_all_commands(folder: Path, model: Path, low: int, high: int, step: int) -> None:
    """Every command finds off.geojson between `low` and `high`, to `step` pixels."""
    slide, outlines = folder / "off.tif", folder / "off.geojson"
    for option in ("--annotations", "--tissue-mask"):
        code, said = run_cli("tile", slide, "-o", option, option, outlines, "--min-tissue", 0.99)
        assert code == 0, said
        coords = TileStore.open(f"{option}/off.h5").coords
        assert coords.min() >= low
        assert coords.max() + step <= high
        assert len(coords) >= 9
    assert score(slide, "--model", model, "-o", "r", "--tissue-mask", outlines) == 0
    assert scored_inside("r/off") == ((low - low % step,) * 2, (high + -high % step,) * 2)
    assert score(slide, "--model", model, "-o", "r2") == 0
    assert run_cli("evaluate", "r2", "--annotations", outlines)[0] == 0
    assert lesion_of("r2/off", outlines) == (low, low, high, high)


def test_outlines_from_qupath_count_from_the_scanned_area(here, cropped, model):
    check_all_commands(cropped, model, 512, 1024, 64)


def test_the_reported_slide_is_cut_where_it_was_drawn_on(here, field_case, model):
    folder = field_case("qupath_bounds_annotations")
    check_all_commands(folder, model, 1024, 1536, 128)


def test_qupath_without_bounds_is_one_option_of_all_commands(here, cropped, model):
    slide, outlines = cropped / "off.tif", cropped / "off.geojson"
    level0 = ("--qupath-origin", "level0")
    assert run_cli("tile", slide, "-o", "t", "--annotations", outlines)[0] == 0
    code, said = run_cli("tile", slide, "-o", "t", "--annotations", outlines, *level0)
    assert (code, "redone: its annotations have changed" in said) == (0, True), said
    assert TileStore.open("t/off.h5").coords.min() == 256
    assert score(slide, "--model", model, "-o", "r", "--tissue-mask", outlines, *level0) == 0
    assert scored_inside("r/off")[1] == (768, 768)
    assert lesion_of("r/off", outlines) == (256, 256, 768, 768)


@pytest.mark.parametrize("written", ["bounds", "level0"])
@pytest.mark.parametrize("read", ["bounds", "level0"])
def test_a_tissue_outline_of_our_own_comes_back_where_it_was(here, cropped, model, written, read):
    slide = cropped / "off.tif"
    assert score(slide, "--model", model, "-o", "r", "--qupath-origin", written) == 0
    first = read_score_map(Path("r/off"), None)
    overlay = Path("r/off/overlay.geojson")
    again = ("--tissue-mask", overlay, "--qupath-origin", read)
    assert score(slide, "--model", model, "-o", "r2", *again) == 0
    second = read_score_map(Path("r2/off"), None)
    both = shapely.intersection(first.tissue, second.tissue).area
    assert both > 0.98 * shapely.union(first.tissue, second.tissue).area
    assert summary("off", "r2")["tissue_mm2"] == pytest.approx(first.tissue_mm2, rel=0.02)
