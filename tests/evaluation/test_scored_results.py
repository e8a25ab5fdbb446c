"""Tables of results are read whole, or refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from wsi_anomaly.core.errors import UsageError, WsiAnomalyError
from wsi_anomaly.evaluation import ScoredSlide
from wsi_anomaly.evaluation.folders import read_results


def written(folder: Path, count: int = 6, **changed: object) -> Path:
    """Write the part of ``scores.zarr`` that is read."""
    root = zarr.open_group(str(folder / "scan" / "scores.zarr"), mode="w", zarr_format=2)
    tiles = root.create_group("tiles")
    facts = {
        "field_level0": [128, 128], "stride_level0": [64, 64], "mpp": [0.5, 0.5], "primary": "dpa",
        "grid_shape": [1, count], "origin_level0": [0, 0],
    }  # fmt: skip
    tiles.attrs.update({k: changed.get(k, v) for k, v in facts.items()})
    index = np.arange(count)
    columns = {
        "coords": np.stack([index * 64, index * 0], 1), "row": index * 0, "col": index,
        "flagged": np.zeros(count, np.uint8), "status": np.zeros(count, np.uint8),
        "tissue_fraction": np.ones(count, np.float32),
    }  # fmt: skip
    for name, values in columns.items():
        tiles.create_array(name, data=np.asarray(changed.get(name, values)))
    scores = tiles.create_group("scores")
    for name in changed.get("methods", ("dpa",)):  # type: ignore[attr-defined]
        scores.create_array(name, data=np.arange(count, dtype=np.float32))
    return folder / "scan"


def test_a_table_is_read_and_smoothed_as_wide_whatever_the_stride(tmp_path: Path) -> None:
    slide = ScoredSlide.read(written(tmp_path))
    assert slide.name == "scan"
    assert slide.assessed.all()
    # Fields of 128 px every 64 px: two neighbours on each side are as wide as one at full stride.
    assert slide.smoothed(slide.scores["dpa"]).tolist() == [1.0, 1.5, 2.0, 3.0, 3.5, 4.0]


@pytest.mark.parametrize(
    "changed",
    [
        {"row": np.arange(5)},
        {"coords": np.arange(4)},
        {"methods": ("density",)},
        {"field_level0": [0, 128]},
        {"mpp": None},
        {"stride_level0": ["wide", 1]},
        {"grid_shape": [1, 5]},
        {"origin_level0": [0]},
        {"col": np.arange(6.0)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_table_that_contradicts_itself_is_refused(tmp_path: Path, changed: dict) -> None:
    folder = written(tmp_path, **changed)
    with pytest.raises(WsiAnomalyError, match=r"is missing or damaged .*; score the slide again"):
        ScoredSlide.read(folder)


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    written(tmp_path)  # no summary: nothing that score has finished
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="holds no results"):
            read_results(folder)
