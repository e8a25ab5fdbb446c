"""``compact``: the project's own perceptual network, small enough for one CPU core.

Eight 3x3 convolutions and two 1x1; 59 MFLOP for a tile of 64 px, 0.8 M weights. It learned to
predict the middle layers of a much larger network (``tools/distill.py``).
Normalisation layers exist while it is trained and are folded into the convolutions afterwards:
a tile's features never depend on the other tiles of its batch.
"""

from __future__ import annotations

from torch import Tensor, nn

from wsi_anomaly.core.resources import models_folder
from wsi_anomaly.features.fields import Chain, cropped
from wsi_anomaly.features.network import Stage
from wsi_anomaly.features.scaling import SYMMETRIC
from wsi_anomaly.features.spec import NETWORKS, NetworkSpec

STRIDES = {"c2": 4, "c3": 8, "c4": 16}
WIDTHS = {"stem": 32, "c2": 48, "c3": 96, "c4": 224}
DEFAULT_LAYER = "c3"


def convolution(
    inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, norm: bool = False
) -> nn.Sequential:
    """Zero-padded convolution with bias, followed by BatchNorm when `norm`."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)
    ]
    if norm:
        layers.append(nn.BatchNorm2d(outputs))
    return nn.Sequential(*layers)


class Residual(Chain):
    """ReLU(x + branch(x)): a 3x3 convolution, and a 1x1 one after it when `wide`."""

    def __init__(self, width: int, *, wide: bool, norm: bool) -> None:
        super().__init__()
        branch: list[nn.Module] = [convolution(width, width, norm=norm)]
        if wide:
            branch += [nn.ReLU(), convolution(width, width, kernel=1, norm=norm)]
        self.branch = nn.Sequential(*branch)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        added: Tensor = self.branch(x)
        y: Tensor = self.relu(cropped(x, added) + added)
        return y


def compact_stages(*, norm: bool = False) -> list[Stage]:
    """Build the layers untrained; `norm` puts a BatchNorm after each convolution, for training."""
    stem, w2, w3, w4 = WIDTHS.values()
    return [
        Stage(
            "c2",
            nn.Sequential(
                convolution(3, stem, stride=2, norm=norm),
                nn.ReLU(),
                convolution(stem, w2, stride=2, norm=norm),
                nn.ReLU(),
                Residual(w2, wide=False, norm=norm),
            ),
        ),
        Stage(
            "c3",
            nn.Sequential(
                convolution(w2, w3, stride=2, norm=norm),
                nn.ReLU(),
                Residual(w3, wide=True, norm=norm),
            ),
        ),
        Stage(
            "c4",
            nn.Sequential(
                convolution(w3, w4, stride=2, norm=norm),
                nn.ReLU(),
                Residual(w4, wide=True, norm=norm),
            ),
        ),
    ]


@NETWORKS.register("compact")
def compact() -> NetworkSpec:
    """Say what ``compact`` is."""
    return NetworkSpec(
        compact_stages,
        SYMMETRIC,
        DEFAULT_LAYER,
        own_file=lambda: models_folder() / "compact.safetensors",
        loss_layers={8: "c2", 16: "c2", 32: "c2", 64: "c3", 128: "c3", 256: "c3"},
        pooled_layers=("c2", "c3"),
    )
