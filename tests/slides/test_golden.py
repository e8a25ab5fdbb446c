"""Real slides are read as they were: fields, their places and their pixels, to the byte.

What changes one of these on purpose (a rule for ink, blur or the border) changes its figures here,
in the same commit, and says so in the changelog.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from wsi_anomaly.slides import find_tissue, open_slide, read_squares
from wsi_anomaly.tiles import plan_fields

# Fields wholly inside the scanned area, digest of their corners, digests of the pixels of four.
GOLDEN = {
    "larynx_40x.tif": (
        2130,
        "2b229714d5abef93",
        ["bd62822c6f71489f", "eda499fa4000fe27", "1afff37dedac1d9c", "2883651171985bd2"],
    ),
    "colon_adenoma.tif": (
        1332,
        "44d938cf916a057a",
        ["2d89413b6e6941a8", "9fa613168c77adfa", "9f115d0cabcff19f", "9b5813fcdda89077"],
    ),
    "colon_normal.tif": (
        2928,
        "e9c46e11d236acd8",
        ["78676b6480100fa5", "8129212672930c86", "756bb6c8cc8e8552", "5ccddf9143b9e26e"],
    ),
}


def digest(values: np.ndarray) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("name", GOLDEN)
def test_fields_of_real_slides_stay_as_they_are(real_data, name):
    with open_slide(real_data / "slides" / name) as slide:
        assert slide.backend == "tiff"
        fields = plan_fields(
            slide, find_tissue(slide), field_um=64.0, min_tissue=0.5, max_tiles=None
        )
        end = fields.coords + fields.field_level0
        whole = (end <= (slide.width + 0.5, slide.height + 0.5)).all(axis=1)
        corners = fields.coords[whole]
        some = corners[np.linspace(0, len(corners) - 1, 4).astype(int)]
        pixels = [digest(rgb) for rgb in read_squares(slide, some, 64, 1.0).rgb]
    assert (len(corners), digest(corners), pixels) == GOLDEN[name]
