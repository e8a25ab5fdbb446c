"""How each rival normalises the stains of the same tiles.

A way takes a job and returns a function that normalises its tiles once. Runs in every peer's
environment; a peer is imported by its own way only.

Job: ``tiles`` (an .npy of (N, s, s, 3) uint8), ``target`` (an .npy of (h, w, 3) uint8, for peers
that want a picture), ``source`` and ``goal`` (stain profiles: ``matrix``, ``maxima``, ``white``).
Slow ways take the first tiles only; all say how many pixels they did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Job = dict[str, Any]
Run = Callable[[], dict[str, Any]]

_BATCH = 32


def _each(tiles: Sequence[Any], normalize: Callable[[Any], object], side: int, of: int = 1) -> Run:
    """Call for each tile (or batch of tiles) and count pixels."""

    def run() -> dict[str, Any]:
        for tile in tiles:
            normalize(tile)
        return {"pixels": len(tiles) * of * side * side}

    return run


def _few(job: Job, megapixels: float) -> np.ndarray:
    """About so many megapixels of tiles, at least two tiles."""
    tiles = np.load(job["tiles"])
    count = max(2, round(megapixels * 1e6 / tiles[0, ..., 0].size))
    return tiles[:count]


def _ours(job: Job, *, fresh: bool) -> Run:
    from wsi_anomaly.stain import StainNormalizer, StainProfile

    tiles = np.load(job["tiles"])
    profiles = [StainProfile.from_dict(job[name]) for name in ("source", "goal")]
    warm = StainNormalizer(*profiles)
    warm(tiles)

    def run() -> dict[str, Any]:
        normalize = StainNormalizer(*profiles) if fresh else warm
        for start in range(0, len(tiles), 256):
            normalize(tiles[start : start + 256])
        return {"pixels": tiles[..., 0].size}

    return run


def ours_first_pass(job: Job) -> Run:
    """wsi-anomaly: the first tiles of a slide, while its table of colours fills."""
    return _ours(job, fresh=True)


def ours_table_warm(job: Job) -> Run:
    """wsi-anomaly: later tiles of a slide."""
    return _ours(job, fresh=False)


def log_exp_numpy(job: Job) -> Run:
    """One logarithm and one exponential for each value, float32, in NumPy."""
    tiles = np.load(job["tiles"])
    side = tiles.shape[1]
    batches = [tiles[i : i + _BATCH] for i in range(0, len(tiles) - _BATCH + 1, _BATCH)]
    room = np.empty((_BATCH, side, side, 3), np.float32)

    def normalize(batch: np.ndarray) -> None:
        np.add(batch, np.float32(1), out=room)
        np.log(room, out=room)
        np.exp(room, out=room)
        room.astype(np.uint8)

    return _each(batches, normalize, side, _BATCH)


def staintools_default(job: Job) -> Run:
    """StainTools as its documentation uses it: Vahadane, the matrix learnt from each tile."""
    import staintools

    normalizer = staintools.StainNormalizer(method="vahadane")
    normalizer.fit(np.load(job["target"]))
    tiles = _few(job, 0.008)
    return _each(tiles, lambda tile: normalizer.transform(tile.copy()), tiles.shape[1])


def staintools_fixed_matrix(job: Job) -> Run:
    """StainTools' concentrations (its lasso) with one matrix for the slide."""
    from staintools.miscellaneous.get_concentrations import get_concentrations

    source, goal = np.array(job["source"]["matrix"]), np.array(job["goal"]["matrix"])
    strength = np.array(job["goal"]["maxima"]) / job["source"]["maxima"]
    tiles = _few(job, 0.8)

    def normalize(tile: np.ndarray) -> None:
        found = get_concentrations(tile.copy(), source)
        pixels = 255 * np.exp(-(found * strength) @ goal)
        pixels.reshape(tile.shape).astype(np.uint8)

    return _each(tiles, normalize, tiles.shape[1])


def torchstain_macenko(job: Job) -> Run:
    """torchstain's Macenko on PyTorch; it has no cache."""
    import torch
    from torchstain.torch.normalizers import TorchMacenkoNormalizer

    torch.set_num_threads(1)
    normalizer = TorchMacenkoNormalizer()
    normalizer.fit(torch.from_numpy(np.load(job["target"])).permute(2, 0, 1))
    tiles = torch.from_numpy(_few(job, 2)).permute(0, 3, 1, 2).contiguous()
    return _each(list(tiles), lambda tile: normalizer.normalize(tile, stains=False), tiles.shape[2])


def _torch_staintools(job: Job, method: str, megapixels: float) -> Run:
    import torch
    from torch_staintools.normalizer.factory import NormalizerBuilder

    torch.set_num_threads(1)
    normalizer = NormalizerBuilder.build(method, use_cache=True, rng=0)
    target = torch.from_numpy(np.load(job["target"])).permute(2, 0, 1)[None].float() / 255
    normalizer.fit(target)
    tiles = torch.from_numpy(_few(job, megapixels)).permute(0, 3, 1, 2)
    size = min(_BATCH, len(tiles))
    batches = [
        (list(range(i, i + size)), tiles[i : i + size].contiguous())
        for i in range(0, len(tiles) - size + 1, size)
    ]

    def normalize(batch: tuple[list[int], Any]) -> None:
        keys, pixels = batch
        out = normalizer(pixels.float() / 255, cache_keys=keys)
        (out * 255).to(torch.uint8)

    for batch in batches:  # learn and cache the matrices
        normalize(batch)
    return _each(batches, normalize, tiles.shape[2], size)


def torch_staintools_vahadane(job: Job) -> Run:
    """torch-staintools' Vahadane in batches of 32, the tiles' matrices cached beforehand."""
    return _torch_staintools(job, "vahadane", 0.6)


def torch_staintools_macenko(job: Job) -> Run:
    """torch-staintools' Macenko in batches of 32, the tiles' matrices cached beforehand."""
    return _torch_staintools(job, "macenko", 2)


def stainx_macenko(job: Job) -> Run:
    """stainx: Macenko in batches of 32, the matrix learnt from each tile; it has no cache."""
    import torch
    from stainx import Macenko

    torch.set_num_threads(1)
    normalizer = Macenko(device="cpu")
    normalizer.fit(torch.from_numpy(np.load(job["target"])).permute(2, 0, 1)[None])
    tiles = torch.from_numpy(_few(job, 2)).permute(0, 3, 1, 2)
    size = min(_BATCH, len(tiles))
    batches = [tiles[i : i + size].contiguous() for i in range(0, len(tiles) - size + 1, size)]
    return _each(batches, normalizer.transform, tiles.shape[2], size)


def tiatoolbox_vahadane(job: Job) -> Run:
    """TIAToolbox's Vahadane, the matrix learnt from each tile."""
    from tiatoolbox.tools.stainnorm import VahadaneNormalizer

    normalizer = VahadaneNormalizer()
    normalizer.fit(np.load(job["target"]))
    tiles = _few(job, 0.2)
    return _each(tiles, lambda tile: normalizer.transform(tile.copy()), tiles.shape[1])


def tiatoolbox_fixed_matrix(job: Job) -> Run:
    """TIAToolbox with one matrix for the slide."""
    from tiatoolbox.tools.stainnorm import CustomNormalizer

    normalizer = CustomNormalizer(np.array(job["source"]["matrix"]))
    normalizer.fit(np.load(job["target"]))
    tiles = _few(job, 2)
    return _each(tiles, lambda tile: normalizer.transform(tile.copy()), tiles.shape[1])
