"""Unlabelled images from many sources, as seeded random 64 px crops (to train ``compact``).

A source is a folder or a ``.zip`` of images, or a folder of slides. Every twentieth image is held
out, so that progress is measured on images that taught nothing.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openslide
import torch
from PIL import Image
from torch import Tensor

from wsi_anomaly.core.errors import UsageError

CROP = 64
HOLD_OUT_EVERY = 20
_IMAGES = {".png", ".jpg", ".jpeg"}
_REGION = 1024


@dataclass(frozen=True)
class Source:
    """Where images come from, how often they are drawn, and how large a crop may be.

    `sides` is the range of the crop's side in pixels of the image before it is brought to 64 px.
    """

    name: str
    path: str
    weight: float
    sides: tuple[int, int]


SOURCES = (
    Source("slides", "slides", 0.25, (64, 400)),
    Source("glas", "tiles/glas/images", 0.15, (64, 300)),
    Source("oral", "tiles/oral", 0.15, (48, 224)),
    Source("lung", "tiles/lung_unlabelled", 0.1, (64, 224)),
    Source("cifar10", "tiles/cifar10_jpeg.zip", 0.2, (24, 32)),
    Source("chest", "tiles/chest_xray", 0.15, (64, 256)),
)
"""What ``compact`` learns from; the paths are below the data folder."""

SLIDES = ("larynx_40x.tif", "cmu1_small_region.svs", "tcga_no_mpp.svs")


class Corpus:
    """Images of several sources in memory, and seeded batches of crops of them.

    Parameters
    ----------
    sources : sequence of Source
    images : sequence of lists of images
        One list for each source, none of them empty.
    """

    def __init__(self, sources: Sequence[Source], images: Sequence[list[Image.Image]]) -> None:
        self.sources = tuple(sources)
        self.images = tuple(images)

    def crops(self, count: int, seed: Sequence[int]) -> Tensor:
        """Random crops, brought to 64 px.

        Returns
        -------
        Tensor (count, 3, 64, 64)
            float32 RGB in 0..255; the same for the same `seed`.
        """
        rng = np.random.default_rng(seed)
        weights = np.array([source.weight for source in self.sources])
        chosen = rng.choice(len(self.sources), count, p=weights / weights.sum())
        crops = np.empty((count, CROP, CROP, 3), np.uint8)
        for i, source in enumerate(chosen):
            crops[i] = self._crop(int(source), rng)
        return torch.from_numpy(crops).permute(0, 3, 1, 2).float()

    def _crop(self, source: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
        images = self.images[source]
        image = images[int(rng.integers(len(images)))]
        low, high = self.sources[source].sides
        limit = min(image.size)
        side = min(limit, int(np.exp(rng.uniform(np.log(low), np.log(high)))))
        x = int(rng.integers(0, image.width - side + 1))
        y = int(rng.integers(0, image.height - side + 1))
        crop = image.resize((CROP, CROP), Image.Resampling.BILINEAR, box=(x, y, x + side, y + side))
        return np.asarray(crop)


def read_corpus(folder: Path, *, leave_out: Sequence[str] = ()) -> tuple[Corpus, Corpus]:
    """Read the sources below a folder.

    Parameters
    ----------
    folder : Path
        The data folder.
    leave_out : sequence of str
        Names of sources that must not be seen, for models that are measured on them.

    Returns
    -------
    learn, unseen : Corpus
        The images to learn from, and every twentieth one, which teaches nothing.

    Raises
    ------
    UsageError
        A source is missing or holds too few images, or a name is unknown.
    """
    unknown = set(leave_out) - {source.name for source in SOURCES}
    sources = [source for source in SOURCES if source.name not in leave_out]
    if unknown or not sources:
        raise UsageError(
            f"The sources that can be left out are {', '.join(s.name for s in SOURCES)}; not all "
            "of them at once, and no others."
        )
    learn, unseen = [], []
    for source in sources:
        images = _read_source(folder / source.path)
        if len(images) < 2:
            raise UsageError(f"{folder / source.path} holds fewer than two images.")
        unseen.append(images[::HOLD_OUT_EVERY])
        learn.append([image for i, image in enumerate(images) if i % HOLD_OUT_EVERY])
    return Corpus(sources, learn), Corpus(sources, unseen)


def augment(images: Tensor, seed: int) -> Tensor:
    """Flips, transposition, stain and colour changes, grey, noise; seeded.

    Stain changes are linear in optical density, as a change of dyes and of section thickness is.

    Parameters
    ----------
    images : Tensor (N, 3, H, W)
        RGB in 0..255.
    seed : int
    """
    g = torch.Generator().manual_seed(seed)
    n = len(images)

    def chance(p: float) -> Tensor:
        return (torch.rand(n, generator=g) < p).view(n, 1, 1, 1)

    for axis in (2, 3):
        images = torch.where(chance(0.5), images.flip(axis), images)
    images = torch.where(chance(0.5), images.transpose(2, 3), images)
    density = -torch.log((images + 1) / 256)
    mix = torch.eye(3) + 0.12 * torch.randn(n, 3, 3, generator=g)
    mix = mix * torch.exp(0.25 * torch.randn(n, 1, 1, generator=g))
    changed = torch.einsum("ncd,ndhw->nchw", mix, density)
    images = torch.where(chance(0.8), 256 * torch.exp(-changed) - 1, images)
    images = torch.where(chance(0.1), images.mean(1, keepdim=True).expand_as(images), images)
    noise = torch.randn(images.shape, generator=g) * (6 * torch.rand(n, 1, 1, 1, generator=g))
    return torch.where(chance(0.3), images + noise, images).clamp(0, 255)


def _read_source(path: Path) -> list[Image.Image]:
    if path.suffix == ".zip" and path.is_file():
        with zipfile.ZipFile(path) as archive:
            # Test images of a benchmark teach nothing.
            names = sorted(
                n
                for n in archive.namelist()
                if Path(n).suffix in _IMAGES and not n.startswith("test/")
            )
            return [_read_image(io.BytesIO(archive.read(name)), name) for name in names]
    if not path.is_dir():
        raise UsageError(f"{path} does not exist; it is one of the sources compact learns from.")
    slides = [path / name for name in SLIDES if (path / name).is_file()]
    if slides:
        return [region for slide in slides for region in _regions(slide)]
    files = sorted(f for f in path.rglob("*") if f.suffix in _IMAGES)
    return [_read_image(file, str(file)) for file in files]


def _read_image(file: Path | io.BytesIO, name: str) -> Image.Image:
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except OSError as error:
        raise UsageError(f"{name} is no readable image; take it out of the source.") from error


def _regions(path: Path) -> list[Image.Image]:
    """Regions of the two finest levels that hold tissue."""
    regions = []
    with openslide.OpenSlide(path) as slide:
        for level in range(min(2, slide.level_count)):
            width, height = slide.level_dimensions[level]
            scale = slide.level_downsamples[level]
            for y in range(0, height - _REGION // 2, _REGION):
                for x in range(0, width - _REGION // 2, _REGION):
                    size = (min(_REGION, width - x), min(_REGION, height - y))
                    at = (round(x * scale), round(y * scale))
                    region = slide.read_region(at, level, size).convert("RGB")
                    if np.asarray(region.resize((32, 32))).mean() < 225:
                        regions.append(region)
    return regions
