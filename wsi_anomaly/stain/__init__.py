"""Stain normalisation: fit once per slide, apply to every pixel."""

from wsi_anomaly.stain.density import concentrations, optical_density
from wsi_anomaly.stain.normalizer import StainNormalizer
from wsi_anomaly.stain.profile import StainProfile, reference_target
from wsi_anomaly.stain.vahadane import fit_vahadane

__all__ = [
    "StainNormalizer",
    "StainProfile",
    "concentrations",
    "fit_vahadane",
    "optical_density",
    "reference_target",
]
