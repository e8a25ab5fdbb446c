"""Detectors: one protocol, one small module for each method, and the model folder."""

from wsi_anomaly.detectors.base import DETECTORS, Detector, Fitting
from wsi_anomaly.detectors.density import Density, DensityConfig
from wsi_anomaly.detectors.dpa import Dpa, DpaConfig, growing_stages
from wsi_anomaly.detectors.fusion import Fusion
from wsi_anomaly.detectors.model import Model
from wsi_anomaly.detectors.settings import Settings

__all__ = [
    "DETECTORS",
    "Density",
    "DensityConfig",
    "Detector",
    "Dpa",
    "DpaConfig",
    "Fitting",
    "Fusion",
    "Model",
    "Settings",
    "growing_stages",
]
