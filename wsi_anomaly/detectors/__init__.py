"""Detectors: one protocol, one small module for each method, and the model folder."""

from wsi_anomaly.detectors.base import Detector, Fitting
from wsi_anomaly.detectors.compared import COMPARED
from wsi_anomaly.detectors.density import Density, DensityConfig
from wsi_anomaly.detectors.dpa import Dpa, DpaConfig, growing_stages
from wsi_anomaly.detectors.fusion import Fusion
from wsi_anomaly.detectors.model import DETECTORS, Model

__all__ = [
    "COMPARED",
    "DETECTORS",
    "Density",
    "DensityConfig",
    "Detector",
    "Dpa",
    "DpaConfig",
    "Fitting",
    "Fusion",
    "Model",
    "growing_stages",
]
