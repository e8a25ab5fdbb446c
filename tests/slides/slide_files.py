"""Small slides for the tests of reading."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import tifffile


def stained(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8: smooth pinks and purples with grain, as H&E has."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((height // 16 + 2, width // 16 + 2, 1))
    smooth = np.kron(coarse, np.ones((16, 16, 1)))[:height, :width]
    colour = np.array((150, 80, 150)) + smooth * (90, 120, 80)
    return np.clip(colour + rng.normal(0, 6, (height, width, 3)), 0, 255).astype(np.uint8)


def tissue_slide(
    path: Path,
    *,
    size: tuple[int, int] = (1024, 1280),
    tissue: tuple[int, int, int, int] = (200, 300, 700, 900),
    mpp: float = 1.0,
) -> Path:
    """Stained tissue (top, left, bottom, right) on glass; one level."""
    image = np.full((*size, 3), 243, np.uint8)
    top, left, bottom, right = tissue
    image[top:bottom, left:right] = stained(bottom - top, right - left)
    return write(path, [image], mpp=mpp)


def write(path: Path, levels: list[np.ndarray], *, mpp: float | None = 1.0, **options) -> Path:
    """A tiled, pyramidal TIFF of these levels, JPEG unless told otherwise."""
    options = {"tile": (256, 256), "photometric": "rgb", "compression": "jpeg"} | options
    bigtiff = options.pop("bigtiff", False)
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as tif:
        for level, image in enumerate(levels):
            resolution = {}
            if mpp is not None:
                per_cm = 1e4 / (mpp * levels[0].shape[1] / image.shape[1])
                resolution = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
            tif.write(image, subfiletype=1 if level else 0, metadata=None, **resolution, **options)
    return path


def jpeg_tiles(image: np.ndarray, missing: set[tuple[int, int]] = frozenset(), tile: int = 256):
    """Compressed tiles of an image, row by row; those in `missing` (row, column) are empty."""
    for row in range(-(-image.shape[0] // tile)):
        for column in range(-(-image.shape[1] // tile)):
            if (row, column) in missing:
                yield b""
                continue
            part = image[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile]
            full = np.full((tile, tile, 3), 255, np.uint8)
            full[: part.shape[0], : part.shape[1]] = part
            yield imagecodecs.jpeg8_encode(full, level=90, colorspace="rgb", outcolorspace="ycbcr")


def sparse(path: Path, image: np.ndarray, missing: set[tuple[int, int]], **options) -> Path:
    """A tiled TIFF without some of its tiles."""
    with tifffile.TiffWriter(path) as tif:
        tif.write(
            jpeg_tiles(image, missing), shape=image.shape, dtype="uint8", tile=(256, 256),
            photometric="rgb", compression="jpeg", metadata=None, **options,
        )  # fmt: skip
    return path
