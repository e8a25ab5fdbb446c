"""What stands in a model for an encoder that others have run: its name, and no network."""

from __future__ import annotations

import torch
from torch import nn

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.features.network import PerceptualNetwork, Stage
from wsi_anomaly.features.scaling import SYMMETRIC
from wsi_anomaly.features.spec import NetworkSpec

EXTERNAL = "embeddings:"
"""Beginning of the names: ``embeddings:uni_v1``."""
UNKNOWN = "unknown"
"""Name of an encoder that nobody has said."""
LAYER = "embedding"


class _NoPixels(nn.Module):
    """Sees no image. Its one number says where the model computes."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1))

    def forward(self, _images: object) -> None:
        """Refuse."""
        raise ModelError(
            "The model has learned from embeddings of another program, and cannot make them of "
            "pixels; give them with score --embeddings FOLDER."
        )


def external_spec() -> NetworkSpec:
    """Say what such a network is."""
    return NetworkSpec(
        lambda: [Stage(LAYER, _NoPixels())],
        SYMMETRIC,
        LAYER,
        float32=True,
    )


def external_network(encoder: str) -> PerceptualNetwork:
    """Make the network of an encoder; "" for one that nobody has named."""
    spec = external_spec()
    return PerceptualNetwork(
        EXTERNAL + (encoder or UNKNOWN), spec.stages(), spec.scaling, spec.default_layer
    )


def encoder_of(network: PerceptualNetwork) -> str | None:
    """Name of the encoder that a network stands for, "" where nobody has named it; None: none."""
    if not network.name.startswith(EXTERNAL):
        return None
    name = network.name.removeprefix(EXTERNAL)
    return "" if name == UNKNOWN else name
