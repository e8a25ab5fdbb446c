"""Image collections with known labels, as tiles: what the quality figures are measured on.

Each set says what its images come from (a patient, a slide, a colour cluster): images of one group
are alike for reasons that have nothing to do with disease, so a group is never on both sides.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.tables import read_table

_SUFFIXES = {".png", ".jpg", ".jpeg"}


@dataclass(frozen=True)
class ImageSet:
    """Images cut into tiles, what each shows, and what it comes from.

    Attributes
    ----------
    name
        Of the set.
    tiles
        (N, S, S, 3) uint8.
    image
        (N,) the image that a tile was cut from.
    kind
        (M,) what each image shows, a position in `kinds`.
    kinds
        The first is the normal one where there is one.
    group
        (M,) patient, slide or image that each image belongs to.
    part
        (M,) where the set itself says which images are to learn from: 0 those, above 0 others.
    """

    name: str
    tiles: NDArray[np.uint8]
    image: NDArray[np.intp]
    kind: NDArray[np.intp]
    kinds: tuple[str, ...]
    group: NDArray[np.intp]
    part: NDArray[np.intp]

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.kind)

    def tiles_of(self, images: NDArray[np.intp]) -> NDArray[np.uint8]:
        """All tiles of the images, in order."""
        return self.tiles[np.isin(self.image, images)]

    def mean_over_images(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mean of per-tile values (N, ...) over the tiles of each image, (M, ...)."""
        total = np.zeros((self.count, *values.shape[1:]))
        np.add.at(total, self.image, values)
        number = np.bincount(self.image, minlength=self.count)
        means: NDArray[np.float64] = total / number.reshape(-1, *[1] * (values.ndim - 1))
        return means


def read_set(name: str, folder: Path, size: int) -> ImageSet:
    """Read a set below the data folder.

    Parameters
    ----------
    name
        One of :data:`SETS`.
    folder
        The data folder; for ``synthetic`` that of ``wsi-anomaly demo``.
    size
        Side of the tiles, px.

    Raises
    ------
    UsageError
        The name is unknown, or images are missing or damaged.
    """
    if name not in SETS:
        raise UsageError(f"There is no image set {name!r}; choose one of {', '.join(SETS)}.")
    if size < 8:
        raise UsageError(f"Tiles have at least 8 px, not {size}.")
    return SETS[name](folder, size)


def cut(image: Image.Image, size: int) -> list[NDArray[np.uint8]]:
    """Square tiles that cover an image, evenly placed and overlapping no more than they must."""
    if min(image.size) < size:
        raise UsageError(f"An image of {image.width} x {image.height} px has no {size} px tiles.")
    pixels = np.asarray(image.convert("RGB"))
    rows, columns = (_starts(length, size) for length in pixels.shape[:2])
    return [pixels[y : y + size, x : x + size] for y in rows for x in columns]


def _starts(length: int, size: int) -> NDArray[np.intp]:
    return np.linspace(0, length - size, -(-length // size)).round().astype(np.intp)


def whole(image: Image.Image, size: int) -> list[NDArray[np.uint8]]:
    """Return the whole image as one tile."""
    return [np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))]


Cutter = Callable[[Image.Image, int], list[NDArray[np.uint8]]]


class _Builder:
    """Collects images one by one."""

    def __init__(self, name: str, kinds: Sequence[str], size: int, cutter: Cutter) -> None:
        self.name, self.kinds, self.size, self.cutter = name, tuple(kinds), size, cutter
        self.tiles: list[NDArray[np.uint8]] = []
        self.image: list[int] = []
        self.kind: list[int] = []
        self.group: list[str] = []
        self.part: list[int] = []

    def add(
        self, source: Path | IO[bytes], name: str, kind: int, group: str, part: int = 0
    ) -> None:
        try:
            with Image.open(source) as opened:
                found = self.cutter(opened, self.size)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise UsageError(f"{name} is no readable image; take it out of the set.") from error
        self.tiles += found
        self.image += [len(self.kind)] * len(found)
        self.kind.append(kind)
        self.group.append(group)
        self.part.append(part)

    def done(self) -> ImageSet:
        _, group = np.unique(self.group, return_inverse=True)
        return ImageSet(
            self.name,
            np.stack(self.tiles),
            np.array(self.image, np.intp),
            np.array(self.kind, np.intp),
            self.kinds,
            group.astype(np.intp),
            np.array(self.part, np.intp),
        )


def _files(folder: Path, pattern: str = "*") -> Iterator[Path]:
    files = sorted(f for f in folder.glob(pattern) if f.suffix.lower() in _SUFFIXES)
    if not files:
        raise UsageError(f"There are no images in {folder}; give the folder that holds the sets.")
    yield from files


def read_chest(folder: Path, size: int) -> ImageSet:
    """Chest radiographs, whole images; a group is a patient (file names begin with it)."""
    kinds = ("no_finding", "pneumonia")
    builder = _Builder("chest", kinds, size, whole)
    for kind, name in enumerate(kinds):
        for file in _files(folder / "tiles" / "chest_xray" / name):
            builder.add(file, str(file), kind, file.name.split("_")[0])
    return builder.done()


def read_oral(folder: Path, size: int) -> ImageSet:
    """Oral mucosa at 400x, tiles at the images' own scale; nothing says what belongs together.

    Every image is a group of its own here: :mod:`wsi_anomaly.experiments.divisions` keeps clusters
    of like colour apart.
    """
    kinds = ("normal", "carcinoma")
    builder = _Builder("oral", kinds, size, cut)
    for kind, name in enumerate(kinds):
        for file in _files(folder / "tiles" / "oral" / name, "*_400x_*"):
            builder.add(file, str(file), kind, file.name)
    return builder.done()


def read_glas(folder: Path, size: int) -> ImageSet:
    """Colon glands, healthy against malignant (adenomatous ones left out); a group is a patient."""
    builder = _Builder("glas", ("healthy", "malignant"), size, cut)
    place = folder / "tiles" / "glas"
    try:
        columns = ("png", "patient", "grade_glas", "grade_sirinukunwattana")
        for row in read_table(place / "labels.csv", columns):
            healthy = row["grade_sirinukunwattana"] == "healthy"
            if healthy or row["grade_glas"] == "malignant":
                image = place / "images" / row["png"]
                builder.add(image, str(image), int(not healthy), row["patient"])
    except OSError as error:
        raise UsageError(f"{place / 'labels.csv'} is missing or damaged; copy it again.") from error
    return builder.done()


def read_cifar10(folder: Path, size: int) -> ImageSet:
    """CIFAR-10 (JPEG), whole images enlarged; ``part`` is 1 for its test images."""
    path = folder / "tiles" / "cifar10_jpeg.zip"
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} is missing or damaged; copy it again.") from error
    with archive:
        names = sorted(n for n in archive.namelist() if Path(n).suffix in _SUFFIXES)
        kinds = sorted({n.split("/")[1] for n in names})
        builder = _Builder("cifar10", kinds, size, whole)
        for name in names:
            half, kind, _ = name.split("/")
            image = io.BytesIO(archive.read(name))
            builder.add(image, name, kinds.index(kind), name, int(half == "test"))
    return builder.done()


def read_synthetic(folder: Path, size: int) -> ImageSet:
    """Tiles of the demo's slides; see :mod:`wsi_anomaly.experiments.synthetic_tiles`."""
    from wsi_anomaly.experiments.synthetic_tiles import read_tiles

    return read_tiles(folder, size)


SETS: dict[str, Callable[[Path, int], ImageSet]] = {
    "chest": read_chest,
    "oral": read_oral,
    "glas": read_glas,
    "cifar10": read_cifar10,
    "synthetic": read_synthetic,
}
"""Readers of the sets, by name."""
