"""A frozen perceptual network: named layers, its own input scaling, normalised activations.

Whatever the network, callers hand over images in [-1, 1] and get f_hat = (f - mean) / std per
filter (Shvetsova et al. 2021, section III), so that no filter dominates a distance only because
its activations are large.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.features.fields import Field, stated_fields
from wsi_anomaly.features.scaling import InputScaling

STD_FLOOR = (0.1, 0.01)
"""A filter's std is at least these fractions of its layer's median and largest std.

Near-dead filters stay quiet: divided by their own tiny std they would drown all others. The second
one holds where most of a layer is dead, and with it the median.
"""


@dataclass(frozen=True)
class Stage:
    """One named layer: the modules that lead to it from the layer before.

    A stage may also give a list with the activations of all layers at once, for networks that
    cannot be cut into a chain; the stages after it hand the list on.
    """

    name: str
    modules: nn.Module


def _fused_flops(image: Any, weight: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    from torch.utils.flop_counter import conv_flop_count

    return int(conv_flop_count(image, weight, out_shape))


# A convolution with what follows it, which the counter does not know and not every build has.
_FUSED = (
    {torch.ops.mkldnn._convolution_pointwise: _fused_flops}
    if hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    else {}
)


class PerceptualNetwork(nn.Module):
    """A frozen chain of stages, each ending in a named layer.

    Parameters
    ----------
    name : str
        Name under which :func:`wsi_anomaly.features.load_features` knows it.
    stages : sequence of Stage
        In order; the activation after stage i is the layer of that name.
    scaling : InputScaling
        What the network's weights expect.
    default_layer : str
        Layer of the final stage of training when nothing else is asked for.
    of_tissue : bool
        Whether it was trained on tissue alone: photographs say nothing of its filters.

    Attributes
    ----------
    layers : tuple of str
        Names of the layers, shallow to deep.
    fields : dict of str to Field, or None
        What a position of each layer sees; None for a network that sees the whole image at once,
        which :class:`wsi_anomaly.features.dense.DenseMaps` refuses.
    """

    fields: dict[str, Field] | None

    _offset: Tensor
    _factor: Tensor

    def __init__(
        self,
        name: str,
        stages: Sequence[Stage],
        scaling: InputScaling,
        default_layer: str,
        *,
        of_tissue: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self.layers = tuple(stage.name for stage in stages)
        self.scaling = scaling
        self.default_layer = default_layer
        self.of_tissue = of_tissue
        self.fields = stated_fields(stages)
        self.stages = nn.ModuleDict({stage.name: stage.modules for stage in stages})
        self._precision = torch.float32
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (scaling.mean, scaling.std))
        self.register_buffer("_offset", (0.5 - mean) / std, False)
        self.register_buffer("_factor", 0.5 / std, False)
        self.requires_grad_(requires_grad=False)
        self.eval()

    def train(self, mode: bool = True) -> PerceptualNetwork:
        """Stay in evaluation mode, whatever the parent module does: the network is frozen."""
        return super().train(mode=False)

    # -- precision ---------------------------------------------------------------------------

    @property
    def precision(self) -> torch.dtype:
        """Number format in which the convolutions run; statistics are always float32."""
        return self._precision

    def set_precision(self, precision: torch.dtype) -> PerceptualNetwork:
        """Convert the weights to `precision` and to channels-last; return the network itself."""
        # torch's annotations lack this documented form.
        self.stages.to(dtype=precision, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._precision = precision
        return self

    # -- activations -------------------------------------------------------------------------

    def activations(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Raw activations at `layers`.

        Parameters
        ----------
        images : Tensor (N, 3, H, W)
            RGB in [-1, 1]; gradients flow through to it.
        layers : sequence of str
            Some of :attr:`layers`. Nothing deeper than the deepest one is computed.

        Returns
        -------
        dict of str to Tensor (N, C, h, w)
            In the network's precision.
        """
        self.check_layers(layers)
        x = self.scaled(images)
        found: dict[str, Tensor] = {}
        for position, (name, stage) in enumerate(self.stages.items()):
            x = stage(x)
            if name in layers:
                found[name] = x if isinstance(x, Tensor) else x[position]
            if len(found) == len(set(layers)):
                break
        return found

    def scaled(self, images: Tensor) -> Tensor:
        """Bring RGB in [-1, 1] (N, 3, H, W) to what the first layer wants, in its precision."""
        x = images.flip(1) if self.scaling.bgr else images
        # ((x + 1) / 2 - mean) / std in one pass over the memory.
        x = torch.addcmul(self._offset, x, self._factor)
        return x.to(self._precision, memory_format=torch.channels_last)

    def forward(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Activations (N, C, H, W) normalised per filter, float32: see :meth:`activations`.

        Raises
        ------
        ModelError
            A layer has no statistics yet.
        """
        return {
            name: self.normalise(f, name) for name, f in self.activations(images, layers).items()
        }

    def normalise(self, activations: Tensor, layer: str) -> Tensor:
        """f_hat = (f - mean) / std of (N, C, H, W), per filter of `layer`, in float32."""
        self.statistics(layer)  # says which are missing
        offset, factor = (
            getattr(self, f"{key}_{layer}").view(1, -1, 1, 1) for key in ("offset", "factor")
        )
        return torch.addcmul(offset, activations, factor)

    def check_layers(self, layers: Sequence[str]) -> None:
        """Raise :class:`ModelError` unless every layer is one of this network's."""
        unknown = [layer for layer in layers if layer not in self.layers]
        if unknown:
            raise ModelError(
                f"The network {self.name} has no layer {unknown[0]!r}; it has "
                f"{', '.join(self.layers)}."
            )

    # -- statistics --------------------------------------------------------------------------

    def has_statistics(self, layer: str) -> bool:
        """Whether `layer` can be normalised."""
        return hasattr(self, f"mean_{layer}")

    def statistics(self, layer: str) -> tuple[Tensor, Tensor]:
        """Mean and (floored) standard deviation of each filter of `layer`, float32 (C,)."""
        if not self.has_statistics(layer):
            raise ModelError(
                f"The layer {layer} of {self.name} has no per-filter statistics yet; "
                "compute them from tiles first."
            )
        return getattr(self, f"mean_{layer}"), getattr(self, f"std_{layer}")

    def set_statistics(self, layer: str, mean: Tensor, std: Tensor) -> None:
        """Store per-filter statistics, (C,) each; `std` is floored (see :data:`STD_FLOOR`).

        Raises
        ------
        ModelError
            They are not finite, or not one number a filter.
        """
        self.check_layers([layer])
        if mean.shape != std.shape or mean.ndim != 1 or not torch.isfinite(mean + std).all():
            raise ModelError(f"The statistics of the layer {layer} of {self.name} are damaged.")
        # Rounded first, so that statistics read back from a file come out as they went in.
        mean, std = mean.float(), std.float()
        floor = max(STD_FLOOR[0] * float(std.median()), STD_FLOOR[1] * float(std.max()))
        # A layer that gives one constant everywhere tells nothing, and is left as it is.
        floor = floor or 1.0
        device = self._offset.device
        std = std.clamp_min(floor)
        kept = {"mean": mean, "std": std, "offset": -mean / std, "factor": 1 / std}
        for key, value in kept.items():
            setattr(self, f"{key}_{layer}", nn.Buffer(value.to(device), persistent=False))

    @torch.no_grad()
    def fit_statistics(self, batches: Iterable[Tensor], layers: Sequence[str]) -> None:
        """Measure mean and std of each filter over images and positions.

        Parameters
        ----------
        batches : iterable of Tensor (N, 3, H, W)
            RGB in [-1, 1].
        layers : sequence of str
        """
        count = dict.fromkeys(layers, 0)
        total: dict[str, Tensor] = {}
        squares: dict[str, Tensor] = {}
        for images in batches:
            for name, f in self.activations(images, layers).items():
                f64 = f.double()
                total[name] = total.get(name, 0) + f64.sum((0, 2, 3))
                squares[name] = squares.get(name, 0) + f64.square().sum((0, 2, 3))
                count[name] += f64.shape[0] * f64.shape[2] * f64.shape[3]
        for name in layers:
            if not count[name]:
                raise ModelError("Per-filter statistics need at least one image.")
            mean = total[name] / count[name]
            variance = squares[name] / count[name] - mean.square()
            self.set_statistics(name, mean, variance.clamp_min(0).sqrt())

    # -- cost and storage --------------------------------------------------------------------

    @torch.enable_grad()
    def flops(self, size: int, layers: Sequence[str] | None = None) -> int:
        """Floating-point operations (two a multiply-add) for one tile of `size` x `size` px."""
        from torch.utils.flop_counter import FlopCounterMode  # loads a compiler, for a moment's use

        # With a gradient: without one, networks may use operators that the counter does not know.
        image = torch.zeros(1, 3, size, size, device=self._offset.device, requires_grad=True)
        with FlopCounterMode(display=False, custom_mapping=_FUSED) as counter:
            self.activations(image, layers or self.layers[-1:])
        return int(counter.get_total_flops())

    def parameter_count(self) -> int:
        """Count weights and biases."""
        return sum(p.numel() for p in self.parameters())

    def to_state(
        self, layers: Sequence[str] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Give weights and statistics up to the deepest of `layers`, and the configuration.

        Everything :func:`wsi_anomaly.features.features_from_state` needs.
        """
        layers = tuple(layers or self.layers)
        self.check_layers(layers)
        deepest = max(self.layers.index(layer) for layer in layers)
        kept = self.layers[: deepest + 1]
        tensors = {
            f"{name}.{key}": value.detach().float().cpu().contiguous()
            for name in kept
            for key, value in self.stages[name].state_dict().items()
        }
        for layer in kept:
            if self.has_statistics(layer):
                mean, std = self.statistics(layer)
                tensors[f"{layer}.filter_mean"] = mean.cpu()
                tensors[f"{layer}.filter_std"] = std.cpu()
        return tensors, {
            "network": self.name,
            "layers": list(kept),
            "default_layer": self.default_layer if self.default_layer in kept else kept[-1],
            "scaling": asdict(self.scaling),
        }

    def load_state(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Take weights and statistics written by :meth:`to_state`, shapes checked.

        Parameters
        ----------
        tensors : mapping
        source : str
            The file, for the error message.

        Raises
        ------
        ModelError
            A tensor is missing, superfluous, of another shape, or not finite.
        """
        left = dict(tensors)
        for name, stage in self.stages.items():
            expected = stage.state_dict()
            loaded = {}
            for key, value in expected.items():
                tensor = left.pop(f"{name}.{key}", None)
                if tensor is None or tensor.shape != value.shape:
                    raise ModelError(
                        f"{source} does not fit the network {self.name}: {name}.{key} is missing "
                        "or has another shape; use the file that belongs to this network."
                    )
                if not torch.isfinite(tensor).all():
                    raise ModelError(f"{source} is damaged: {name}.{key} holds NaN or infinity.")
                loaded[key] = tensor
            stage.load_state_dict(loaded)
            mean, std = left.pop(f"{name}.filter_mean", None), left.pop(f"{name}.filter_std", None)
            if mean is not None and std is not None:
                self.set_statistics(name, mean, std)
        if left:
            raise ModelError(
                f"{source} does not fit the network {self.name}: it also holds {min(left)}."
            )
