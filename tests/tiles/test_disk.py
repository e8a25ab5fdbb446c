"""How much room is needed is said before anything is written, and is never too little."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tile_fakes import on_glass, write_slide

from wsi_anomaly.options import TileOptions
from wsi_anomaly.tiles import disk
from wsi_anomaly.tiles.config import TileConfig
from wsi_anomaly.tiles.disk import about_room, room_needed
from wsi_anomaly.tiles.jobs import plan_jobs
from wsi_anomaly.tiles.run import TileRun


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"max_tiles": None},
        {"tile_size": 32},
        {"magnifications": (10, 20)},
        {"compression": "jpeg", "max_tiles": None},
        {"compression": "jpeg", "magnifications": (10, 20)},
        {"compression": "jpeg", "tile_size": 8, "max_tiles": None},
    ],
)
def test_a_tile_file_takes_no_more_than_was_said(tmp_path: Path, changes) -> None:
    # Full of tissue, and no whole number of chunks: those at the edges are stored whole.
    full = on_glass((1200, 1300), (16, 16, 1184, 1284), seed=1)
    write_slide(tmp_path / "s.tif", full, mpp=0.5 if "magnifications" in changes else 1.0)
    (tmp_path / "bad.tif").write_bytes(b"no slide")
    options = TileOptions(workers=1, stain="none", **changes)
    run = TileRun.plan([tmp_path / "s.tif"], tmp_path / "tiles", options)
    said = room_needed(run.jobs, run.output, run.config)
    assert len(list(run.outcomes())) == 1
    assert said >= (tmp_path / "tiles" / "s.h5").stat().st_size
    assert room_needed(run.jobs, run.output, run.config) == 0  # it is there


def test_of_many_slides_a_few_are_asked_and_bad_ones_are_passed_over(tmp_path, monkeypatch) -> None:
    write_slide(tmp_path / "s0.tif", on_glass(seed=1))
    for k in range(1, 8):
        shutil.copy(tmp_path / "s0.tif", tmp_path / f"s{k}.tif")
    jobs = plan_jobs(sorted(tmp_path.glob("s?.tif")), tmp_path)
    config = TileConfig()
    each = room_needed(jobs[:1], tmp_path, config)
    monkeypatch.setattr(disk, "_MOST_OPENED", 3)
    assert room_needed(jobs, tmp_path, config) == 8 * each
    (tmp_path / "s0.tif").write_bytes(b"no slide")
    assert room_needed(jobs, tmp_path, config) == 8 * each
    assert room_needed(jobs[:1], tmp_path, config) == 0


def test_too_little_room_is_said(tmp_path: Path) -> None:
    assert about_room(10_000_000, tmp_path)[0].startswith(f"{tmp_path}/ will take at most 10 MB; ")
    text, too_little = about_room(10**18, tmp_path)
    assert too_little
    assert "may not suffice" in text
