"""What several benchmarks need."""

from __future__ import annotations

import os
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

os.environ["PYTHONDONTWRITEBYTECODE"] = ""  # fresh processes find byte code, as a user's do


def peak_mb() -> float:
    """Peak resident memory of this process so far, MiB.

    From /proc: ``ru_maxrss`` starts at the size of the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def memory_mb() -> float:
    """Memory of this process now, MiB, without files that are mapped into it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def huge_slide(path: Path, side: int = 100_000, tile: int = 512, mpp: float = 0.25) -> Path:
    """Write a pyramidal slide of `side` x `side` pixels in a few megabytes and seconds.

    Two compressed tiles a level, tissue and glass; all the others are references to them. To a
    reader it is a slide like any other: every tile is read and decoded on its own.
    """
    rng = np.random.default_rng(0)
    grain = np.kron(rng.random((tile // 16, tile // 16, 1)), np.ones((16, 16, 1)))
    tissue = (150, 80, 150) + grain * (90, 120, 80) + rng.normal(0, 6, (tile, tile, 3))
    glass = np.full((tile, tile, 3), 241.0)
    stored = [
        imagecodecs.jpeg8_encode(np.clip(pixels, 0, 255).astype(np.uint8), level=80)
        for pixels in (tissue, glass)
    ]
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        level = 0
        while level == 0 or side >> level >= 2048:
            size = side >> level
            per_cm = 1e4 / mpp / 2**level
            count = (-(-size // tile)) ** 2
            tif.write(
                iter([*stored, *([b""] * (count - 2))]), shape=(size, size, 3), dtype="uint8",
                tile=(tile, tile), photometric="ycbcr", compression="jpeg", metadata=None,
                subfiletype=int(level > 0), resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
            )  # fmt: skip
            level += 1
    with tifffile.TiffFile(path, mode="r+b") as tif:
        for page in tif.pages:
            columns = -(-page.imagewidth // tile)
            row, column = np.divmod(np.arange(columns**2), columns)
            block = max(1, columns // 8)  # a chessboard of eight by eight
            kind = (row // block + column // block) % 2
            for name in ("TileOffsets", "TileByteCounts"):
                values = page.tags[name].value
                page.tags[name].overwrite(tuple(int(values[k]) for k in kind))
    return path
