"""Stain normalisation: fit once per slide, apply to every pixel."""

from wsi_anomaly.stain.concentrations import concentrations, optical_density
from wsi_anomaly.stain.fitting import METHODS, fit_profile
from wsi_anomaly.stain.normalizer import StainNormalizer
from wsi_anomaly.stain.profile import StainProfile, reference_target

__all__ = [
    "METHODS",
    "StainNormalizer",
    "StainProfile",
    "concentrations",
    "fit_profile",
    "optical_density",
    "reference_target",
]
