"""Slides in memory and small slide files, with stained tissue in known places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from wsi_anomaly.slides import Bounds, Mpp, ReadError, Region, Slide
from wsi_anomaly.slides.base import SlideInfo


def stained_picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8: eosin with nuclei of hematoxylin, as H&E has them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    eosin = np.full((height, width), 0.5) + 0.3 * np.sin(x / 23) * np.cos(y / 31)
    hematoxylin = np.full((height, width), 0.1)
    count = max(4, height * width // 900)
    for cy, cx, r in zip(
        rng.uniform(0, height, count), rng.uniform(0, width, count), rng.uniform(3, 7, count),
        strict=True,
    ):  # fmt: skip
        here = np.s_[max(0, int(cy - 8)) : int(cy + 9), max(0, int(cx - 8)) : int(cx + 9)]
        inside = (y[here] - cy) ** 2 + (x[here] - cx) ** 2 < r**2
        hematoxylin[here][inside] = 1.2
    matrix = np.array([[0.65, 0.70, 0.29], [0.20, 0.94, 0.27]])
    density = np.stack((hematoxylin, eosin), -1) @ matrix
    pixels = 243 * np.exp(-density) + rng.normal(0, 4, (height, width, 3))
    return np.clip(pixels, 1, 255).astype(np.uint8)


def on_glass(
    size: tuple[int, int] = (1024, 1280),
    tissue: tuple[int, int, int, int] = (128, 192, 896, 1088),
    seed: int = 0,
) -> np.ndarray:
    """Tissue (top, left, bottom, right) on glass."""
    image = np.full((*size, 3), 243, np.uint8)
    top, left, bottom, right = tissue
    image[top:bottom, left:right] = stained_picture(bottom - top, right - left, seed)
    return image


def write_slide(path: Path, image: np.ndarray | None = None, mpp: float | None = 0.5) -> Path:
    """A tiled TIFF of one level, JPEG."""
    resolution = {}
    if mpp is not None:
        resolution = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(
        path, on_glass() if image is None else image, tile=(256, 256), photometric="rgb",
        compression="jpeg", metadata=None, **resolution,
    )  # fmt: skip
    return path


class ArraySlide(Slide):
    """A slide in memory: reads inside `damaged` (x, y, width, height) fail."""

    backend = "array"

    def __init__(
        self,
        image: np.ndarray,
        mpp: tuple[float, float] = (0.5, 0.5),
        bounds: tuple[int, int, int, int] | None = None,
        damaged: tuple[int, int, int, int] | None = None,
    ) -> None:
        height, width = image.shape[:2]
        super().__init__(
            Path("in memory.tif"),
            SlideInfo(
                width, height, ((width, height),), (1.0,), Mpp(*mpp, "test"),
                Bounds(*(bounds or (0, 0, width, height))), (255, 255, 255), None, {},
            ),
        )  # fmt: skip
        self.image, self.damaged = image, damaged

    def close(self) -> None:
        """Nothing to close."""

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Region:
        if self.damaged is not None:
            left, top, w, h = self.damaged
            if x < left + w and left < x + width and y < top + h and top < y + height:
                raise ReadError("damaged")
        rgb = np.full((height, width, 3), 255, np.uint8)
        here = np.s_[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)]
        part = self.image[here]
        top, left = max(0, -y), max(0, -x)
        rgb[top : top + part.shape[0], left : left + part.shape[1]] = part
        coverage = np.zeros((height, width), bool)
        coverage[top : top + part.shape[0], left : left + part.shape[1]] = True
        return Region(rgb, None if coverage.all() else coverage)
