"""What a network is before it has weights, and where its published ones are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from wsi_anomaly.core import plugins
from wsi_anomaly.core.registry import Registry
from wsi_anomaly.features.network import Stage
from wsi_anomaly.features.scaling import InputScaling


@dataclass(frozen=True)
class NetworkSpec:
    """A perceptual network that can be chosen by name.

    Attributes
    ----------
    stages
        Builds the layers, shallow to deep, with random weights.
    scaling
        What the weights expect.
    default_layer
        Layer of the loss, and of the embedding, where nothing else is chosen.
    published
        Gives the published weights by name, from a download or a file; None: there are none.
    convert
        Turns names of published weights into ``<layer>.<name within its module>``, given the
        weights and their source for messages; None: they have these names.
    scaling_of
        The scaling, where it depends on which weights were published.
    depth_of
        How many of the layers the weights fill, where a file may end early; None: all.
    float32
        Whether it runs in float32 everywhere: bfloat16 shifts whole filters of some networks, and
        a score would depend on the processor.
    own_file
        File of this project that holds weights and statistics, taken where no other is given.
    loss_layers
        Resolution in px to the layer of the loss of ``dpa``; others get `default_layer`.
    pooled_layers
        Layers of the embedding of ``density`` and its like; empty: `default_layer`.
    pooled_by
        Usual estimator of ``density`` over them in `fields_um` at 10x; elsewhere it is ``both``.
    fields_um
        Usual sides of its fields; empty: it judges tiles.
    of_tissue
        Whether the weights were trained on tissue alone: their filters are scaled by the tiles that
        are learned from, not by photographs.
    licence
        What a user must know of the licence of the published weights, where it is no free one.
    """

    stages: Callable[[], list[Stage]]
    scaling: InputScaling
    default_layer: str
    published: Callable[[], Mapping[str, Tensor]] | None = None
    convert: Callable[[Mapping[str, Tensor], str], Mapping[str, Tensor]] | None = None
    scaling_of: Callable[[Mapping[str, Tensor]], InputScaling] | None = None
    depth_of: Callable[[Mapping[str, Tensor]], int] | None = None
    float32: bool = False
    own_file: Callable[[], Path] | None = None
    loss_layers: Mapping[int, str] = field(default_factory=dict)
    pooled_layers: tuple[str, ...] = ()
    pooled_by: str = "both"
    fields_um: tuple[int, ...] = ()
    of_tissue: bool = False
    licence: str | None = None


NETWORKS: Registry[Callable[[], NetworkSpec]] = plugins.NETWORKS
"""Networks by name: functions that say what each is. ``timm:<model>`` are not among them."""
