"""What a file of regions lacks is found when it is read, not where it is shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.results.region_file import NAME, read_region_file, write_region_file
from wsi_anomaly.scoring.top_fields import BesideNormal


@pytest.mark.parametrize("part", [{"um": 256}, {"um": float("inf"), "distance": "knn", "units": 1}])
def test_what_spoke_is_read_with_the_file(tmp_path: Path, part: dict[str, object]) -> None:
    none = np.empty((1, 0), np.float32)
    beside = BesideNormal(
        np.zeros(1, np.intp), np.ones(1, np.int64), np.ones((1, 3), np.float32), (b"",),
        ({"parts": [part]},), none.astype(np.intp), none, none, (), 256,
    )  # fmt: skip
    write_region_file(tmp_path / NAME, beside)
    with pytest.raises(OutputError, match="is damaged"):
        read_region_file(tmp_path)
