"""A data folder with every source of ``tools/corpus.py``, made of small synthetic images."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from corpus import SOURCES

IMAGES = 25


def image(level: int, side: int = 72) -> Image.Image:
    """Smooth noise around a grey level that tells which image it is."""
    rng = np.random.default_rng(level)
    noise = rng.integers(-3, 4, (side, side, 3))
    return Image.fromarray(np.clip(level + noise, 0, 255).astype(np.uint8))


def make_corpus_folder(folder: Path) -> Path:
    """Write 25 images for each source; image i of a source has the grey level 4 + 10 i."""
    for source in SOURCES:
        path = folder / source.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w") as archive:
                for i in range(IMAGES):
                    archive.writestr(f"train/cat/{i:02}.png", png(image(4 + 10 * i, side=32)))
                archive.writestr("test/cat/00.png", png(Image.new("RGB", (32, 32), "red")))
        else:
            path.mkdir(exist_ok=True)
            for i in range(IMAGES):
                (path / f"{i:02}.png").write_bytes(png(image(4 + 10 * i)))
    return folder


def png(image: Image.Image) -> bytes:
    """Encode."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
