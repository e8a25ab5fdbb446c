"""A slide that was tiled by a tissue mask is calibrated by that mask, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from shapely import box

from wsi_anomaly.annotations import Outline, write_geojson
from wsi_anomaly.tiles import TileConfig, tile_slide
from wsi_anomaly.tiles.jobs import Job
from wsi_anomaly.training.config import load_config
from wsi_anomaly.training.run import Watch, train

LEFT = box(0, 0, 400, 800)


@pytest.fixture
def masked(cohort: Path, tmp_path: Path) -> Path:
    """Tiles of the left halves of the cohort's slides; their masks in ``masks/``."""
    (tmp_path / "masks").mkdir()
    for slide in sorted((cohort / "slides").glob("*.tif")):
        mask = tmp_path / "masks" / f"{slide.stem}.geojson"
        write_geojson(mask, [Outline("Tissue", LEFT)], slide.stem)
        job = Job(slide, tissue_mask=mask, origin="level0")
        tile_slide(job, tmp_path / "tiles", TileConfig())
    return tmp_path


def test_calibration_looks_only_where_the_mask_is(cohort: Path, masked: Path) -> None:
    config = load_config(str(cohort / "tiny.toml"))
    model = train(masked / "tiles", masked / "model", config)
    slides = model.calibration["density"].slides
    assert len(slides) == 4
    # 64 um are 128 pixels: the fourth column has 16 of its 128 inside, a little over a tenth.
    assert {int(slide.col.max()) for slide in slides} <= {2, 3}


def test_slides_whose_mask_has_changed_or_gone_are_left_out_in_a_sentence(
    cohort: Path, masked: Path
) -> None:
    config = load_config(str(cohort / "tiny.toml"))
    for number, mask in enumerate(sorted((masked / "masks").iterdir())):
        if number % 2:
            mask.unlink()
        else:
            write_geojson(mask, [Outline("Tissue", box(0, 0, 800, 800))], mask.stem)
    notes: list[str] = []
    model = train(masked / "tiles", masked / "model", config, watch=Watch(note=notes.append))
    assert model.calibration == {}
    assert len(notes) == 4
    for note in notes:
        assert "Not used for calibration: the tissue mask, " in note
        assert "put it back, or run 'wsi-anomaly tile'" in note
