"""Hyperparameters chosen by a few known anomalies, or by reconstruction alone."""

from wsi_anomaly.tuning.arrays import search_arrays
from wsi_anomaly.tuning.records import Found, Watch
from wsi_anomaly.tuning.search_data import SearchData
from wsi_anomaly.tuning.space import Space
from wsi_anomaly.tuning.tune import tune

__all__ = [
    "Found",
    "SearchData",
    "Space",
    "Watch",
    "search_arrays",
    "tune",
]
