"""Hyperparameters chosen by a few known anomalies, or by reconstruction alone."""

from wsi_anomaly.search.arrays import search_arrays
from wsi_anomaly.search.material import Material
from wsi_anomaly.search.records import Found, Watch
from wsi_anomaly.search.space import Space
from wsi_anomaly.search.tune import tune

__all__ = ["Found", "Material", "Space", "Watch", "search_arrays", "tune"]
