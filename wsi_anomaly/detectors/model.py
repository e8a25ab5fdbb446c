"""The model folder: everything that scoring needs, in files that cannot run code.

``model.json`` says what the model is: network, detectors, preprocessing, calibration, the slides
it has seen, where it comes from. ``model.safetensors`` holds the numbers. ``README.md`` is the
model card. The preprocessing travels with the model, so scoring cannot disagree with training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_anomaly.calibration import Calibration
from wsi_anomaly.core.devices import choose_device, is_out_of_memory
from wsi_anomaly.core.errors import MemoryShortError, ModelError, WsiAnomalyError
from wsi_anomaly.core.files import atomic_folder, config_hash, write_json, write_text
from wsi_anomaly.core.prefixes import below, prefixed
from wsi_anomaly.core.tensors import save_tensors
from wsi_anomaly.detectors.base import DETECTORS, Detector, batches
from wsi_anomaly.detectors.examples import Examples
from wsi_anomaly.detectors.frozen import refuse_frozen
from wsi_anomaly.detectors.known import Known, knows_directions, likeness
from wsi_anomaly.detectors.stored_model import (
    CARD,
    DESCRIPTION,
    FORMAT,
    NUMBERS,
    VERSION,
    packages_of,
    read_stored,
    refuse_missing,
)
from wsi_anomaly.features import PerceptualNetwork, features_from_state, working_precision
from wsi_anomaly.features.dense import DenseMaps
from wsi_anomaly.learning.batches import to_images

_BESIDE: dict[str, Any] = {"known": Known, "examples": Examples}
"""What a model may have beside its reference."""


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model.

    Attributes
    ----------
    name
        For people.
    magnification, tile_size
        What it looks at: 10, 20 or 40, and the side of a tile in pixels at it.
    preprocessing
        How pixels become tiles (``tiles.Preprocessing.to_dict()``).
    detectors
        By method name; a fusion comes after its members.
    primary
        The method that ranks.
    calibration
        Normal reference of each method; empty when too few cases were at hand.
    seen
        Fingerprint of every slide that it has seen, to "train", "validation", "calibration" or
        "review".
    domain
        Range of stains and pixel sizes of the training slides, for out-of-domain warnings.
    provenance
        Short facts for people: when, from how many slides and tiles, with what configuration.
    known
        Findings that readers named, beside the reference.
    examples
        Normal fields to show beside what it flags.
    """

    name: str
    magnification: int
    tile_size: int
    preprocessing: Mapping[str, Any]
    detectors: Mapping[str, Detector]
    primary: str
    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    seen: Mapping[str, str] = field(default_factory=dict)
    domain: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    known: Known | None = None
    examples: Examples | None = None
    hash: str = ""

    @property
    def version(self) -> int:
        """Version of the folder's format."""
        return VERSION

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods."""
        return tuple(self.detectors)

    @property
    def features(self) -> PerceptualNetwork:
        """The perceptual network that all detectors share."""
        return self.detectors[self.primary].features

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.features.parameters()).device

    @property
    def tile_methods(self) -> tuple[str, ...]:
        """Those that judge tiles, each by itself."""
        return tuple(name for name, d in self.detectors.items() if not d.fields_um)

    @property
    def fields_um(self) -> tuple[int, ...]:
        """Sides of the fields round a cell that the other methods judge."""
        return tuple(sorted({um for d in self.detectors.values() for um in d.fields_um}))

    def _layers(self, names: Iterable[str] | None = None) -> tuple[str, ...]:
        """Layers that these methods want, shallow to deep; None: all methods."""
        wanted = {n for name in names or self.detectors for n in self.detectors[name].layers}
        return tuple(layer for layer in self.features.layers if layer in wanted)

    def dense_maps(self) -> DenseMaps:
        """Give the network with the layers that fields are pooled from.

        Raises
        ------
        ModelError
            It sees whole images only, or the methods that judge fields differ in their layers.
        """
        wanted = {d.layers for d in self.detectors.values() if d.fields_um}
        if len(wanted) != 1:
            raise ModelError("Methods of one model that judge fields have the same layers.")
        return DenseMaps(self.features, wanted.pop())

    @torch.inference_mode()
    def score_fields(
        self, embeddings: Mapping[int, NDArray[np.float32]], shares: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        """Raw scores (N,) per method of the fields round N cells, higher = more anomalous.

        Parameters
        ----------
        embeddings
            By size in um: (N, D) means of the normalised filters of :meth:`dense_maps`' layers.
        shares
            (N,) least share of tissue in the fields round each cell.
        """
        found = {um: torch.from_numpy(values).to(self.device) for um, values in embeddings.items()}
        tissue = torch.from_numpy(shares).to(self.device)
        scores = {}
        for name, detector in self.detectors.items():
            if detector.fields_um:
                with DETECTORS.blaming(name):
                    scores[name] = detector.score_fields(found, tissue).float().cpu().numpy()
        return scores

    @torch.inference_mode()
    def place_fields(
        self, embeddings: Mapping[int, NDArray[np.float32]]
    ) -> NDArray[np.float32] | None:
        """Where N cells lie in the space of the method that ranks, (N, k); None: it has none."""
        detector = self.detectors[self.primary]
        if not detector.fields_um:
            return None
        found = {um: torch.from_numpy(values).to(self.device) for um, values in embeddings.items()}
        with DETECTORS.blaming(self.primary):
            places = detector.place_fields(found)
        return None if places is None else places.float().cpu().numpy()

    @torch.inference_mode()
    def score_tiles(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Raw scores (N,) of tiles (N, S, S, 3) uint8 per method that judges tiles.

        Higher is more anomalous. All share one pass of the perceptual network over the tiles.
        """
        self._check(images)
        found: dict[str, list[Tensor]] = {name: [] for name in self.tile_methods}
        layers = self._layers(found)
        for batch in batches(images):
            x = to_images(batch, self.device)
            truth = self.features(x, layers) if layers else {}
            for name, scores in found.items():
                with DETECTORS.blaming(name):
                    scores.append(self.detectors[name].score_batch(x, truth).float().cpu())
        return {
            name: torch.cat(parts).numpy() if parts else np.empty(0, np.float32)
            for name, parts in found.items()
        }

    @torch.inference_mode()
    def pixel_maps(self, images: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Perceptual error maps (N, S, S) of tiles, of the first method that has some, or None."""
        self._check(images)
        ordered = sorted(self.tile_methods, key=lambda name: name != self.primary)
        layers = self._layers(ordered) if ordered else ()
        parts: list[Tensor] = []
        for batch in batches(images):
            x = to_images(batch, self.device)
            truth = self.features(x, layers) if layers else {}
            maps = (self.detectors[name].map_batch(x, truth) for name in ordered)
            found = next((m for m in maps if m is not None), None)
            if found is None:
                return None
            parts.append(found.float().cpu())
        return torch.cat(parts).numpy() if parts else None

    def _check(self, images: NDArray[np.uint8]) -> None:
        size = self.tile_size
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, 3):
            raise ModelError(
                f"The model looks at 8-bit tiles of {size} x {size} px, not {images.dtype} "
                f"{images.shape}."
            )

    @torch.inference_mode()
    def likeness(self, embeddings: Mapping[int, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Directions (N, d) in which fields deviate, of embeddings (N, D) by size in um.

        Raises
        ------
        ModelError
            No method of the model judges fields.
        """
        return likeness(self.judge_of_fields, embeddings)

    @property
    def judge_of_fields(self) -> Detector:
        """The method whose embeddings findings are known by."""
        for detector in self.detectors.values():
            if knows_directions(detector):
                return detector
        raise ModelError(
            f"The model {self.name} judges single tiles, and findings are known by fields round "
            "cells; train one as `wsi-anomaly train` does without further options."
        )

    def with_calibration(
        self, calibration: Mapping[str, Calibration], seen: Mapping[str, str]
    ) -> Self:
        """Return the same model with another normal reference and another list of seen slides."""
        return replace(self, calibration=dict(calibration), seen=dict(seen), hash="")

    # -- files -------------------------------------------------------------------------------

    def save(
        self, folder: str | Path, *, card: str = "", files: Mapping[str, bytes] | None = None
    ) -> Self:
        """Write the model folder; what stood there before is replaced as a whole.

        Parameters
        ----------
        folder
            Where to.
        card
            The model card (Markdown).
        files
            Further small files by name or path (training log, pictures).

        Returns
        -------
        The model with the identity that its files give it.

        Raises
        ------
        UsageError
            The folder holds a frozen model.
        OutputError
            It cannot be written; the former folder stays.
        """
        refuse_frozen(Path(folder))
        # Of a network that nothing asks for only a beginning is kept: it says where to compute.
        layers = self._layers() or self.features.layers[:1]
        tensors, config = self.features.to_state(layers)
        numbers = prefixed("features/", tensors)
        description: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "magnification": self.magnification,
            "tile_size": self.tile_size,
            "preprocessing": dict(self.preprocessing),
            "primary": self.primary,
            "features": config,
            "detectors": {},
            "calibration": {},
            "seen": dict(self.seen),
            "domain": dict(self.domain),
            "provenance": dict(self.provenance),
        }
        if packages := packages_of(self.features.name, self.detectors):
            description["packages"] = packages
        for name, detector in self.detectors.items():
            tensors, description["detectors"][name] = detector.to_state()
            numbers |= prefixed(f"detector/{name}/", tensors)
        for name in _BESIDE:
            if (part := getattr(self, name)) is not None:
                tensors, description[name] = part.to_state()
                numbers |= prefixed(f"{name}/", tensors)
        for name, calibration in self.calibration.items():
            arrays, description["calibration"][name] = calibration.to_state()
            numbers |= {
                f"calibration/{name}/{key}": torch.from_numpy(value)
                for key, value in arrays.items()
            }
        with atomic_folder(folder) as partial:
            save_tensors(partial / NUMBERS, numbers, {"format": FORMAT, "version": VERSION})
            description["sha256"] = hashlib.sha256((partial / NUMBERS).read_bytes()).hexdigest()
            write_json(partial / DESCRIPTION, description)
            if card:
                write_text(partial / CARD, card)
            for name, content in (files or {}).items():
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                (partial / name).write_bytes(content)
        return replace(self, hash=config_hash(description))

    @classmethod
    def load(cls, folder: str | Path, *, device: str | torch.device = "cpu") -> Self:
        """Read a model folder and check it.

        Raises
        ------
        ModelError
            It is missing, incomplete, damaged, of another version, or contradicts itself.
        """
        folder = Path(folder)
        device = choose_device(str(device))
        description, tensors = read_stored(folder)
        try:
            refuse_missing(description, folder)
            features = features_from_state(
                below("features/", tensors), description["features"], str(folder)
            )
            # The format in which it was learned: bfloat16 shifts the means of whole fields.
            fields = any(c.get("fields_um") for c in description["detectors"].values())
            precision = torch.float32 if fields else working_precision(features.name, device)
            features.to(device).set_precision(precision)
            detectors: dict[str, Detector] = {}
            for name, config in description["detectors"].items():
                state = below(f"detector/{name}/", tensors)
                with DETECTORS.blaming(name):
                    kind = DETECTORS.get(name)
                    detector = kind.from_state(state, config, features, detectors)
                    detectors[name] = detector.to(device)
            calibration = {
                str(name): Calibration.from_state(
                    {k: t.numpy() for k, t in below(f"calibration/{name}/", tensors).items()},
                    meta,
                )
                for name, meta in description["calibration"].items()
            }
            primary = str(description["primary"])
            if primary not in detectors or not set(calibration) <= set(detectors):
                raise ValueError("its methods do not fit together")
            return cls(
                name=str(description["name"]),
                magnification=_one_of(int(description["magnification"]), (10, 20, 40)),
                tile_size=_one_of(int(description["tile_size"]), range(8, 1025)),
                preprocessing=dict(description["preprocessing"]),
                detectors=detectors,
                primary=primary,
                calibration=calibration,
                seen={str(k): str(v) for k, v in description["seen"].items()},
                domain=dict(description["domain"]),
                provenance=dict(description["provenance"]),
                **{
                    name: kind.from_state(below(f"{name}/", tensors), description[name])
                    for name, kind in _BESIDE.items()
                    if description.get(name)
                },
                hash=config_hash(description),
            )
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise MemoryShortError(
                    f"There is not enough memory on {device} for the model in {folder}; end other "
                    "programs that use it, or give --device cpu."
                ) from error
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ModelError(
                f"The model in {folder} is damaged ({reason}); copy it again, or train it anew."
            ) from error
        except (ModelError, MemoryShortError):
            raise
        except WsiAnomalyError as error:
            raise ModelError(f"The model in {folder} cannot be used: {error}") from error


def _one_of(value: int, allowed: Any) -> int:
    if value not in allowed:
        raise ValueError(f"{value} is out of range")
    return value
