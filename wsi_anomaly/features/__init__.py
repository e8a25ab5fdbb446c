"""Frozen perceptual networks and their per-filter statistics."""

from wsi_anomaly.features.loading import (
    FEATURES,
    features_from_state,
    load_features,
    network_spec,
    working_precision,
)
from wsi_anomaly.features.network import PerceptualNetwork, Stage
from wsi_anomaly.features.scaling import IMAGENET, SYMMETRIC, InputScaling
from wsi_anomaly.features.spec import NETWORKS, NetworkSpec

__all__ = [
    "FEATURES",
    "IMAGENET",
    "NETWORKS",
    "SYMMETRIC",
    "InputScaling",
    "NetworkSpec",
    "PerceptualNetwork",
    "Stage",
    "features_from_state",
    "load_features",
    "network_spec",
    "working_precision",
]
