"""How good is it: scores against known truth, always beside their controls."""

from wsi_anomaly.evaluation.colour import ColourControl, mean_colours
from wsi_anomaly.evaluation.froc import Froc, detections, froc
from wsi_anomaly.evaluation.labels import ABNORMAL, IGNORED, NORMAL, label_fields
from wsi_anomaly.evaluation.metrics import (
    Estimate,
    Performance,
    performance,
    pr_auc,
    roc_auc,
)
from wsi_anomaly.evaluation.results import ScoredSlide

__all__ = [
    "ABNORMAL",
    "IGNORED",
    "NORMAL",
    "ColourControl",
    "Estimate",
    "Froc",
    "Performance",
    "ScoredSlide",
    "detections",
    "froc",
    "label_fields",
    "mean_colours",
    "performance",
    "pr_auc",
    "roc_auc",
]
