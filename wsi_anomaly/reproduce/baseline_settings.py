"""How the baselines, which the paper compares with, were configured: what is not their usual value.

As in the authors' repository (``configs/deep_geo``, ``configs/piad``, ``configs/deep_if``, the
folders ``reproduce``): one configuration for all classes of a set, nothing chosen by anomalies.
"""

from __future__ import annotations

from typing import Any

from wsi_anomaly.baselines.deep_geo import TRANSFORMS, DeepGeoConfig
from wsi_anomaly.reproduce.published import CIFAR10, SVHN

LEARNED_FROM: dict[str, dict[str, int]] = {
    "camelyon16": {"healthy": 7_612},
    "nih": {"subset": 4_261, "PA": 34_497, "AP": 16_003},
    "cifar10": dict.fromkeys(CIFAR10, 5_000),
    "svhn": dict(
        zip(
            SVHN,
            (4_948, 13_861, 10_585, 8_497, 7_458, 6_882, 5_727, 5_595, 5_045, 4_659),
            strict=True,
        )
    ),
}
"""Set and problem: number of normal training images."""

PIAD_LAYER = "r42"
_EPOCHS = 3


def published_settings(name: str, source: str, problem: str) -> dict[str, Any]:
    """Give the published values that are not a system's usual ones, those for 32 px.

    A set that is not the paper's has those of the chest X-ray subset, in colour.
    """
    if name not in ("deep-geo", "piad"):
        return {}
    found = {"image_channels": 1 if source == "nih" else 3}
    if name == "deep-geo":
        known = source in LEARNED_FROM
        images = LEARNED_FROM[source][problem] if known else LEARNED_FROM["nih"]["subset"]
        rounds = -(-images * TRANSFORMS // DeepGeoConfig.batch_size)
        found |= {"steps": _EPOCHS * rounds, "dirichlet_tiles": images}
        if source not in ("cifar10", "svhn"):  # images of 64 px
            found |= {"depth": 16, "width": 8}
    return found
