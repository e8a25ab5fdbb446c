"""Frozen perceptual networks and their per-filter statistics."""

from wsi_anomaly.features.loading import FEATURES, features_from_state, load_features
from wsi_anomaly.features.network import PerceptualNetwork

__all__ = ["FEATURES", "PerceptualNetwork", "features_from_state", "load_features"]
