"""A reader's decisions about every slide of a results folder: ``soak_review.py RESULTS VERDICT``.

The same decisions each time: made again they stand where they stood.
"""

from __future__ import annotations

import sys
from pathlib import Path

import one_run  # noqa: F401  (its faults)
from shapely import box

from wsi_anomaly.results.reviews import Review, append_review
from wsi_anomaly.results.summary import read_summary, result_names

PLACES = {"artefact": box(100, 100, 300, 300), "abnormal": box(320, 320, 500, 500)}

if __name__ == "__main__":
    results, verdict = Path(sys.argv[1]), sys.argv[2]
    for name in result_names(results):
        slide = (read_summary(results / name) or {})["slide"]
        review = Review("ann", slide["name"], slide["fingerprint"], verdict, PLACES[verdict])
        append_review(results, review)
