"""What several benchmarks need."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile

REPOSITORY = Path(__file__).resolve().parents[1]
# What tests draw, and how they drive a browser, serves benchmarks too.
sys.path += [str(REPOSITORY / "tests"), str(REPOSITORY / "tests" / "viewer")]
os.environ["PYTHONDONTWRITEBYTECODE"] = ""  # fresh processes find byte code, as a user's do


def parser_of(text: str | None, rounds: int | None = 5) -> argparse.ArgumentParser:
    """Parser that shows `text` as it stands; with ``--json`` and, unless None, ``--rounds``."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the figures here too")
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds)
    return parser


def finish(result: Mapping[str, Any], path: Path | None) -> None:
    """Print what was measured; with `path` keep it there, with the machine and the command."""
    print(json.dumps(result, indent=2))
    if path is not None:
        text = json.dumps({**machine(), **result}, indent=2)
        path.write_text(text + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """What figures were measured on, by which command."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    words = [f"benchmarks/{Path(sys.argv[0]).name}"]
    for before, word in zip(sys.argv, sys.argv[1:], strict=False):
        if "--json" not in (before, word):
            words.append(Path(word).name if "/" in word else word)
    return {
        "command": "python " + " ".join(words),
        "date": datetime.now(UTC).date().isoformat(),
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "wsi-anomaly": version("wsi-anomaly"),
        "imagecodecs": version("imagecodecs"),
    }


def find_slide(folder: Path) -> Path:
    """Find the larynx slide of the project's data, or draw a slide where that is missing."""
    data = Path(os.environ.get("WSI_ANOMALY_DATA", REPOSITORY.parent / "shared" / "data"))
    real = data / "slides" / "larynx_40x.tif"
    return real if real.is_file() else drawn(folder / "drawn_40x.tif")


def drawn(out: Path) -> Path:
    """Draw a slide of 40x with tissue everywhere, for machines without the project's data."""
    rng = np.random.default_rng(0)
    coarse = rng.random((512, 512, 1))
    image = np.kron(coarse, np.ones((12, 12, 1))) * (90, 120, 80) + (150, 80, 150)
    image = np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)
    with tifffile.TiffWriter(out) as tif:
        for level in range(4):
            per_cm = 1e4 / 0.293 / 2**level
            tif.write(
                image[:: 2**level, :: 2**level], tile=(256, 256), photometric="rgb",
                compression="jpeg", compressionargs={"level": 75}, metadata=None,
                subfiletype=int(level > 0), resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
            )  # fmt: skip
    return out


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
