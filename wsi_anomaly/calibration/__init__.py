"""What a raw anomaly score means against normal tissue.

A raw score has no unit. Scores of normal slides that took no part in training give it one: a
percentile, a robust z-score, an approximate p-value, and the operating point above which a field
is flagged. The room knows arrays only: no slides, no networks, no files.
"""

from wsi_anomaly.calibration.calibration import Calibration, CaseScores
from wsi_anomaly.calibration.fdr import FalseDiscovery, benjamini_hochberg
from wsi_anomaly.calibration.operating_point import OperatingPoint
from wsi_anomaly.calibration.regions import label_regions, smooth_scores
from wsi_anomaly.calibration.risk import MIN_CASES, location

__all__ = [
    "MIN_CASES",
    "Calibration",
    "CaseScores",
    "FalseDiscovery",
    "OperatingPoint",
    "benjamini_hochberg",
    "label_regions",
    "location",
    "smooth_scores",
]
