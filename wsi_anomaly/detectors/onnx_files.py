"""A model as ONNX files, for programs that have onnxruntime and no PyTorch.

``network.onnx`` gives the normalised maps of the pooled layers, ``density.onnx`` the embeddings and
the raw score. Both take RGB of a stain-normalised slide; docs/how-to/export.md says what is in
them. What is written has been compared with what ``score`` computes.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

import wsi_anomaly
from wsi_anomaly.core.errors import ModelError, UsageError
from wsi_anomaly.core.extras import import_extra
from wsi_anomaly.core.files import atomic_file
from wsi_anomaly.core.prefixes import below
from wsi_anomaly.detectors.density import Density
from wsi_anomaly.detectors.edges import above_usual
from wsi_anomaly.detectors.model import Model
from wsi_anomaly.detectors.stored_model import DESCRIPTION, read_stored
from wsi_anomaly.features.external import encoder_of
from wsi_anomaly.features.fields import unpad
from wsi_anomaly.features.pooling import pooled_fields
from wsi_anomaly.learning.batches import to_images

TOLERANCE = 1e-3
"""Most that a score of the file may be off, in units of normal tissue's spread, as scores are."""
_CHECKED = 2  # rows and columns of fields, or tiles, that are compared
_PACKAGES = ("onnxscript", "onnxruntime")


@dataclass(frozen=True)
class OnnxFiles:
    """What was written, and how far its scores are from PyTorch's (normal tissue's spread: 1)."""

    files: list[Path]
    difference: float


def export_onnx(folder: Path, output: Path, *, overwrite: bool = False) -> OnnxFiles:
    """Write ``network.onnx`` and ``density.onnx``.

    Parameters
    ----------
    folder
        The model: one that ranks by ``density`` on a network of ours.
    output
        Folder of the files.
    overwrite
        Replace files that are there.

    Raises
    ------
    UsageError
        It is no model, or one that has no such file; a file is there, or a package is missing.
    ModelError
        The model is damaged, or the files compute something else than it does.
    OutputError
        They cannot be written.
    """
    if not (folder / DESCRIPTION).is_file():
        raise UsageError(f"{folder} holds no model; --to onnx takes the folder that train writes.")
    paths = [output / f"{name}.onnx" for name in ("network", "density")]
    for path in paths:
        if path.exists() and not overwrite:
            raise UsageError(f"{path} is there already; give --overwrite to replace it.")
    for package in _PACKAGES:
        import_extra(package, "onnx", "Writing ONNX files")
    model = Model.load(folder)
    detector = _density_of(model, folder)
    # With bfloat16 a tile model's weights were rounded on loading: once more from the file.
    model.features.set_precision(torch.float32)
    model.features.load_state(below("features/", read_stored(folder)[1]), str(folder))
    judged = _Judged(model, detector)
    with ExitStack() as opened:
        network, density = (opened.enter_context(atomic_file(path)) for path in paths)
        _write(network, judged.maps, judged, judged.maps.layers)
        _write(density, judged, judged, ["score", *judged.embedding_names])
        difference = _difference(density, model, judged)
        if not difference <= TOLERANCE:
            raise ModelError(
                f"The ONNX file of {folder} scores other than the model, by {difference:.2g} of "
                "normal tissue's spread; it was not written, use the model itself."
            )
    return OnnxFiles(paths, difference)


def _density_of(model: Model, folder: Path) -> Density:
    """Give the method that ranks, if it has a file."""
    detector = model.detectors[model.primary]
    if not isinstance(detector, Density):
        raise UsageError(
            f"The model in {folder} ranks by {model.primary}; only density can be written as ONNX."
        )
    if encoder_of(model.features) is not None:
        raise UsageError(
            f"The model in {folder} judges embeddings of another program, and has no network to "
            "write as ONNX."
        )
    if detector.fields_um:
        maps = model.dense_maps()
        stride = max(model.features.fields[n].stride for n in maps.layers)  # type: ignore[index]
        for um in detector.fields_um:
            px = _pixels(um, model)
            if px % stride or model.tile_size % stride or (model.tile_size - px) % (2 * stride):
                raise UsageError(
                    f"The model in {folder} judges fields of {px} px every {model.tile_size} px, "
                    f"which do not lie on its network's grid of {stride} px; only such that do can "
                    "be written as ONNX."
                )
    return detector


def _pixels(um: int, model: Model) -> int:
    return round(um * model.magnification / 10)


class _Maps(nn.Module):
    """Images (N, H, W, 3) uint8 to normalised maps (N, C, h, w) of some layers.

    Of fields nothing is padded: an image is `context` px larger than the fields on it.
    """

    def __init__(self, model: Model, layers: Sequence[str], field: int) -> None:
        super().__init__()
        self.network = deepcopy(model.features).set_precision(torch.float32)
        self.layers, self.context = tuple(layers), 0
        self._cut = dict.fromkeys(layers, (0, 0))
        if not field:
            return
        unpad(self.network)
        fields = self.network.fields
        assert fields is not None  # dense_maps has seen to it
        deep = fields[self.layers[-1]]
        self.context = deep.size - deep.stride
        for name in layers:
            own = fields[name]
            first = (own.start - deep.start) // own.stride
            made = (field + self.context - own.size) // own.stride + 1
            self._cut[name] = first, made - first - field // own.stride

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        found = self.network(to_images(image), self.layers)
        return tuple(_cropped(found[name], *self._cut[name]) for name in self.layers)


def _cropped(values: Tensor, first: int, last: int) -> Tensor:
    """Leave out `first` rows and columns before and `last` after."""
    return values[:, :, first : values.shape[2] - last, first : values.shape[3] - last]


class _Judged(nn.Module):
    """Images (N, H, W, 3) uint8 to scores: (N,) of tiles, or (N, rows, columns) of fields.

    And to their embeddings, (N, D) or for each size of field (N, rows, columns, D).
    """

    def __init__(self, model: Model, detector: Density) -> None:
        super().__init__()
        self.detector, self.step = detector, model.tile_size
        self.sizes = {um: _pixels(um, model) for um in detector.fields_um}
        self.largest = max(self.sizes.values(), default=0)
        layers = model.dense_maps().layers if self.sizes else detector.layers
        self.maps = _Maps(model, layers, self.largest)
        self.embedding_names = [f"embedding_{um}um" for um in self.sizes] or ["embedding"]
        self.side = self.largest + self.maps.context or self.step
        """Of an image with one field, or of a tile, px."""
        usual = detector.state_.get("usual")
        all_tissue = torch.zeros(1), torch.ones(1)
        self.usual = 0.0 if usual is None else -float(above_usual(*all_tissue, usual))
        facts = {
            "model_hash": model.hash, "model_name": model.name,
            "wsi_anomaly": wsi_anomaly.__version__, "network": model.features.name,
            "layers": list(layers), "method": model.primary,
            "estimator": detector.config.estimator, "magnification": model.magnification,
            "stain": model.preprocessing["stain"], "field_um": list(self.sizes),
            "field_px": list(self.sizes.values()), "step_px": self.step,
            "image_px": self.side, "context_px": self.maps.context // 2,
        }  # fmt: skip
        self.facts = {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in facts.items()
        }

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = self.maps(image)
        if not self.sizes:
            embedding = torch.cat([values.mean((2, 3)) for values in maps], 1)
            return self.detector.score_embeddings(embedding), embedding
        found = {um: self._pooled(maps, px) for um, px in self.sizes.items()}
        rows = {um: values.flatten(0, 2) for um, values in found.items()}
        score = self.detector.score_fields(rows) - self.usual
        return score.reshape(next(iter(found.values())).shape[:3]), *found.values()

    def _pooled(self, maps: Sequence[Tensor], px: int) -> Tensor:
        """Means (N, rows, columns, D) of fields of `px` in the middle of the largest ones."""
        parts = []
        for name, values in zip(self.maps.layers, maps, strict=True):
            stride = self.maps.network.fields[name].stride  # type: ignore[index]
            beside = (self.largest - px) // 2 // stride
            inner = _cropped(values, beside, beside)
            parts.append(F.avg_pool2d(inner, px // stride, self.step // stride))
        return torch.cat(parts, 1).permute(0, 2, 3, 1)


def _write(path: Path, module: nn.Module, judged: _Judged, outputs: Sequence[str]) -> None:
    """Write what a module computes of images, any number of them."""
    side, dim = judged.side, torch.export.Dim
    image = torch.zeros((2, side, side, 3), dtype=torch.uint8)
    free: dict[int, Any] = {0: dim("images", min=1)}
    if judged.sizes:  # and of any size: another row of fields a step
        image = torch.zeros((2, side + judged.step, side + 2 * judged.step, 3), dtype=torch.uint8)
        rest = side - judged.step
        free |= {1: judged.step * dim("rows", min=1) + rest}
        free |= {2: judged.step * dim("columns", min=1) + rest}
    # The operators of oneDNN, which lite0 takes on a processor, are none of ONNX.
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        with torch.backends.mkldnn.flags(enabled=False):
            try:
                program: Any = torch.onnx.export(
                    module.eval(), (image,), dynamo=True, verbose=False, input_names=["image"],
                    output_names=list(outputs), dynamic_shapes={"image": free},
                )  # fmt: skip
            except torch.onnx.OnnxExporterError as error:
                raise UsageError(
                    f"The network {judged.facts['network']} cannot be written as ONNX by this "
                    "PyTorch; take lite0 or compact."
                ) from error
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # names of files on this machine
    program.model.metadata_props.update(judged.facts)
    program.save(path)


def _difference(path: Path, model: Model, judged: _Judged) -> float:
    """Largest difference between the file's scores and those that ``score`` computes."""
    ort: Any = import_module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    if judged.sizes:
        images, expected = _scored_fields(model, judged)
    else:
        images = _drawn(judged.side * _CHECKED**2)[: judged.side]
        images = np.stack(np.split(images, _CHECKED**2, axis=1))
        expected = model.score_tiles(images)[model.primary]
    found = session.run(["score"], {"image": images})[0]
    return float(np.abs(found - expected).max())


def _scored_fields(model: Model, judged: _Judged) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Give an image (1, H, W, 3) and the scores (1, rows, columns) of its fields, as on a slide."""
    step, context = judged.step, judged.maps.context
    before = context // 2
    first = -(-(before - (step - judged.largest) // 2) // step)
    corner = first * step + (step - judged.largest) // 2 - before
    side = corner + judged.side + (_CHECKED - 1) * step
    slide = _drawn(side)
    # One strip as high as the image: one part.
    [part] = pooled_fields(
        model.dense_maps(), lambda x, y, w, h: slide[y : y + h, x : x + w], side, side,
        background=(255, 255, 255), sizes=tuple(judged.sizes.values()), step=step, strip=side,
    )  # fmt: skip
    here = slice(first, first + _CHECKED)
    flat = {
        um: part.embeddings[px][here, here].reshape(_CHECKED**2, -1)
        for um, px in judged.sizes.items()
    }
    scores = model.score_fields(flat, np.ones(_CHECKED**2, np.float32))[model.primary]
    return slide[None, corner:, corner:], scores.reshape(1, _CHECKED, _CHECKED)


def _drawn(side: int) -> NDArray[np.uint8]:
    """Draw an image (`side`, `side`, 3) in the colours of tissue."""
    rng = np.random.default_rng(0)
    coarse = np.kron(rng.random((-(-side // 8), -(-side // 8), 1)), np.ones((8, 8, 1)))
    image = (150, 80, 150) + coarse * (90, 120, 80)
    image = image[:side, :side] + rng.normal(0, 6, (side, side, 3))
    return image.clip(0, 255).astype(np.uint8)
