"""What a detector is, whatever its method.

The vocabulary is scikit-learn's: parameters go to the constructor and stay as they are, ``fit``
learns from normal tiles, ``score_samples`` judges new ones, learned state ends in an underscore.
Unlike scikit-learn's outlier detectors a *higher* score is more anomalous, as in the literature
on anomaly detection in images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_anomaly.core import plugins
from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.core.registry import Registry
from wsi_anomaly.core.robust import MAD_TO_SD
from wsi_anomaly.detectors.settings import Settings
from wsi_anomaly.features import PerceptualNetwork
from wsi_anomaly.features.broad import broad_tiles
from wsi_anomaly.learning.batches import Tiles, to_images
from wsi_anomaly.learning.loop import Report

BATCH = 128
"""Tiles judged at once: on a CPU larger batches are not faster, and memory stays small."""

State = tuple[dict[str, Tensor], dict[str, Any]]


@dataclass
class Fitting:
    """How a fit runs, apart from what it learns.

    Attributes
    ----------
    device
        Where the networks live.
    checkpoint
        Folder for files from which an interrupted fit goes on; None: no resuming.
    identity
        What the run is made of; a checkpoint of another one is refused.
    progress
        Called with each :class:`~wsi_anomaly.learning.loop.Report` of a detector that trains.
    anomalies
        A few known abnormal tiles, for what is chosen under weak supervision; never trained on.
    """

    device: torch.device
    checkpoint: Path | None = None
    identity: Mapping[str, Any] | None = None
    progress: Callable[[Report], None] | None = None
    anomalies: Tiles | None = None

    @classmethod
    def on(cls, device: str | torch.device = "cpu") -> Self:
        """Fit on a device, without resuming."""
        return cls(torch.device(device))

    def checkpoint_of(self, method: str) -> Path | None:
        """File from which an interrupted fit of a method goes on; None: no resuming."""
        return None if self.checkpoint is None else self.checkpoint / f"{method}.safetensors"


class Detector(ABC):
    """Learns from normal tiles; gives every tile an anomaly score.

    Parameters
    ----------
    features : PerceptualNetwork
        Frozen, with statistics for the layers that the detector uses.
    config
        Of the kind that :attr:`config_type` names.

    Attributes
    ----------
    name : str
        Name of the method, in files and on the command line: that of its registration.
    state_ : dict of str to Tensor
        What has been learned. :meth:`to`, :meth:`to_state` and :meth:`from_state` handle it; a
        detector that keeps its knowledge otherwise gives :meth:`learned` and :meth:`restore`.
    log_ : list of dict
        What training looked like; empty for methods without a loop.

    Raises
    ------
    ModelError
        The network lacks a layer.
    """

    name: ClassVar[str]
    config_type: ClassVar[Any] = Settings
    """Class of its configuration: frozen, with ``to_dict`` and ``from_dict``. ``train`` fills
    ``layers``, ``layer``, ``resolution``, ``estimator``, ``flips`` and ``seed`` where it has them,
    then what the user's configuration says under ``[options.<name>]``."""
    facts: ClassVar[tuple[str, ...]] = ()
    """Attributes that are learned and no tensors, without their ``_``: stored beside the
    configuration."""
    loss_name: ClassVar[str] = "loss"
    """What the loss in :attr:`log_` is, for the axis of a picture."""

    config: Any
    state_: dict[str, Tensor]

    def __init__(self, features: PerceptualNetwork, config: Any) -> None:
        if not isinstance(config, self.config_type):
            raise TypeError(f"{self.name} takes {self.config_type.__name__}")
        self.features = features
        self.config = config
        self.log_: list[dict[str, Any]] = []
        features.check_layers(self.layers)

    @classmethod
    def make(cls, features: PerceptualNetwork, config: Any, others: Mapping[str, Detector]) -> Self:
        """Make the detector; `others` are those of the same model that come before it, by name."""
        del others
        return cls(features, config)

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers of the network whose activations :meth:`score_batch` wants.

        Those of the configuration; none where it does not have any.
        """
        return tuple(getattr(self.config, "layers", ()))

    @property
    def fitting_layers(self) -> tuple[str, ...]:
        """Layers that :meth:`fit` wants statistics of."""
        return self.layers

    @property
    def fields_um(self) -> tuple[int, ...]:
        """Sides of the fields that it judges round each cell, um; none: it judges tiles.

        A detector with fields has :meth:`fit_fields` and :meth:`score_fields`; its embeddings are
        the layers' normalised filters, averaged over the tissue of each field.
        """
        return ()

    def fit_fields(self, embeddings: Mapping[int, Tensor], shares: Tensor | None = None) -> Self:
        """Learn from normal fields on the CPU.

        Parameters
        ----------
        embeddings
            By size in um, (N, D) float32.
        shares
            (N,) float32, least share of tissue in the fields round each cell; None: not known.
        """
        raise NotImplementedError(f"{self.name} judges tiles")

    def score_fields(
        self, embeddings: Mapping[int, Tensor], shares: Tensor | None = None
    ) -> Tensor:
        """Raw scores (N,) of the fields round N cells, as in fitting; higher = more anomalous."""
        raise NotImplementedError(f"{self.name} judges tiles")

    @property
    def takes_own(self) -> bool:
        """Whether it has :meth:`of_slide`."""
        return False

    def of_slide(self, kinds: Sequence[Mapping[int, Tensor]]) -> Self:
        """Give the detector that also refers to kinds of a slide's normal fields, (n, D) by size.

        Whatever is given, no score is higher than without.
        """
        raise NotImplementedError(f"{self.name} knows no slide's own tissue")

    def place_fields(self, embeddings: Mapping[int, Tensor]) -> Tensor | None:
        """Where fields lie in a space of few axes, (N, k), for comparing slides; None: nowhere."""
        del embeddings
        return None

    def spoken(self, embeddings: Mapping[int, Tensor]) -> dict[tuple[int, str], Tensor]:
        """Give what scores of fields are the mean of: (N,) by size in um and name of a distance."""
        del embeddings
        return {}

    @abstractmethod
    def fit(
        self, tiles: Tiles, validation: Tiles | None = None, fitting: Fitting | None = None
    ) -> Self:
        """Learn from normal tiles.

        Parameters
        ----------
        tiles
            Normal tiles to learn from.
        validation
            Normal tiles of other cases, for early stopping; may be left out.
        fitting
            Device, checkpoints, progress.

        Raises
        ------
        ModelError
            It cannot be learned from these tiles.
        """

    @abstractmethod
    def score_batch(self, images: Tensor, truth: Mapping[str, Tensor]) -> Tensor:
        """Raw scores of a batch.

        Parameters
        ----------
        images
            (N, 3, S, S) in [-1, 1].
        truth
            Normalised activations of `images` at (at least) :attr:`layers`; detectors that run
            side by side share them.

        Returns
        -------
        Tensor (N,)
            Float32; higher is more anomalous.
        """

    def map_batch(self, images: Tensor, truth: Mapping[str, Tensor]) -> Tensor | None:
        """Where the score comes from, (N, S, S); None for a method that judges tiles as a whole."""
        return None

    def embed(self, truth: Mapping[str, Tensor]) -> Tensor:
        """Average normalised activations over positions: (N, D) float32, layer after layer."""
        return torch.cat([truth[name].mean((2, 3)) for name in self.layers], 1).float()

    @torch.no_grad()
    def embed_tiles(self, tiles: Tiles, most: int = 50_000, seed: int = 0) -> Tensor:
        """Embed tiles, at most `most` that `seed` draws: (N, D) float32, on the CPU."""
        fit_missing_statistics(self.features, tiles, self.layers)
        device = device_of(self.features)
        images = batches(sample_images(tiles, most, seed))
        found = (self.embed(self.features(to_images(b, device), self.layers)) for b in images)
        return torch.cat([embedding.cpu() for embedding in found])

    # -- state -------------------------------------------------------------------------------

    def to(self, device: torch.device | str) -> Self:
        """Move what has been learned (not the shared network)."""
        self.state_ = {name: t.to(device) for name, t in self.state_.items()}
        return self

    def learned(self) -> Mapping[str, Tensor]:
        """Tensors from which :meth:`restore` rebuilds what has been learned."""
        return self.state_

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take what :meth:`learned` gave, finite and as :meth:`state_shapes` says.

        Raises
        ------
        KeyError, ValueError
            A tensor is missing, or not as it should be.
        """
        expected = self.state_shapes(tensors)
        for name, shape in expected.items():
            if tensors[name].shape != shape:
                raise ValueError(f"{self.name}/{name} has another shape than it should have")
        self.state_ = {name: tensors[name].float() for name in expected}

    def state_shapes(self, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor of the state, for which `tensors` may be asked."""
        return {name: tuple(tensor.shape) for name, tensor in tensors.items()}

    def to_state(self) -> State:
        """Tensors and JSON-ready parameters from which :meth:`from_state` rebuilds the detector."""
        facts = {name: getattr(self, f"{name}_") for name in self.facts}
        tensors = {name: t.detach().cpu().contiguous() for name, t in self.learned().items()}
        return tensors, self.config.to_dict() | facts

    @classmethod
    def from_state(
        cls,
        tensors: Mapping[str, Tensor],
        config: Mapping[str, Any],
        features: PerceptualNetwork,
        others: Mapping[str, Detector],
    ) -> Self:
        """Rebuild a detector.

        Parameters
        ----------
        tensors, config
            What :meth:`to_state` gave.
        features
            The shared network.
        others
            Detectors of the same model that were rebuilt before this one, by name.

        Raises
        ------
        KeyError, TypeError, ValueError, RuntimeError, WsiAnomalyError
            The state does not fit; :class:`~wsi_anomaly.detectors.Model` turns it into a sentence.
        """
        settings = {key: value for key, value in config.items() if key not in cls.facts}
        detector = cls.make(features, cls.config_type.from_dict(settings), others)
        for name in cls.facts:
            setattr(detector, f"{name}_", config[name])
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{cls.name}/{name} is not finite")
        detector.restore(tensors)
        return detector

    @torch.inference_mode()
    def score_samples(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Raw scores (N,) of tiles (N, S, S, 3) uint8; higher is more anomalous."""
        device = device_of(self.features)
        parts = []
        for batch in batches(images):
            x = to_images(batch, device)
            truth = self.features(x, self.layers) if self.layers else {}
            parts.append(self.score_batch(x, truth).float().cpu())
        return torch.cat(parts).numpy() if parts else np.empty(0, np.float32)


DETECTORS: Registry[type[Detector]] = plugins.DETECTORS
"""Every method by name."""


def batches(images: NDArray[np.uint8], size: int = BATCH) -> list[NDArray[np.uint8]]:
    """Cut tiles (N, S, S, C) into batches (n, S, S, C)."""
    return [images[i : i + size] for i in range(0, len(images), size)]


def device_of(network: PerceptualNetwork) -> torch.device:
    """Where a network lives."""
    return next(network.parameters()).device


def robust_units(values: Tensor) -> Tensor:
    """Median of normal values and their spread, which a few odd ones do not move.

    Parameters
    ----------
    values
        (N, m).

    Returns
    -------
    (2, m): the median, and 1.4826 times the median absolute deviation, at least 1e-6.
    """
    middle = values.median(0).values
    spread = MAD_TO_SD * (values - middle).abs().median(0).values
    return torch.stack((middle, spread.clamp_min(1e-6)))


def sample_images(tiles: Tiles, most: int, seed: int = 0) -> NDArray[np.uint8]:
    """At most `most` tiles (n, S, S, C), drawn by `seed`, in memory."""
    count = len(tiles)
    if count == 0:
        raise ModelError("There are no tiles to learn from.")
    if count <= most:
        return tiles.batch(np.arange(count))
    chosen = np.random.default_rng(seed).choice(count, most, replace=False)
    return tiles.batch(np.sort(chosen))


def fit_missing_statistics(
    features: PerceptualNetwork, tiles: Tiles, layers: Sequence[str], most: int = 2048
) -> None:
    """Measure per-filter statistics of layers that have none yet.

    They are those of a broad set of images (:mod:`wsi_anomaly.features.broad`): statistics of a
    handful of like images make much of filters that hardly ever answer. Only encoders that know
    nothing but tissue are measured on the tiles, at most `most`.
    """
    missing = [layer for layer in layers if not features.has_statistics(layer)]
    if not missing:
        return
    device = device_of(features)
    if features.of_tissue:
        images = (to_images(part, device) for part in batches(sample_images(tiles, most)))
    else:
        images = (part.to(device) for part in broad_tiles())
    features.fit_statistics(images, missing)
