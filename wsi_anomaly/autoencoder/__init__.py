"""The progressive autoencoder, its growth, and the relative perceptual L1 loss."""

from wsi_anomaly.autoencoder.growth import GrowthConfig, GrowthTrainer, Stage
from wsi_anomaly.autoencoder.loss import mix_resolutions, pixel_map, relative_l1
from wsi_anomaly.autoencoder.network import Architecture, ProgressiveAutoencoder

__all__ = [
    "Architecture",
    "GrowthConfig",
    "GrowthTrainer",
    "ProgressiveAutoencoder",
    "Stage",
    "mix_resolutions",
    "pixel_map",
    "relative_l1",
]
