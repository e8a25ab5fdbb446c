"""CIFAR-10 and SVHN: one class is normal, all others are abnormal.

Taken from torchvision's own files, from folders ``train/<class>/`` and ``test/<class>/``, or from
a zip file of such folders. Nothing is downloaded.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.reproduce.problems import KNOWN, Problem, draw, judged, resized
from wsi_anomaly.reproduce.published import CHOSEN_BY, CIFAR10, SVHN

_SUFFIXES = {".png", ".jpg", ".jpeg"}
_SIDE = 32
_HALVES = ("train", "test")

_WHERE = {
    "cifar10": "download CIFAR-10 for Python from its authors' page and give the folder that holds "
    "cifar-10-batches-py",
    "svhn": "download train_32x32.mat and test_32x32.mat from the authors' page and give their "
    "folder",
}


class NaturalImages:
    """CIFAR-10 or SVHN in memory.

    Parameters
    ----------
    key
        "cifar10" or "svhn".
    data
        Folder or zip file.
    learn, judge
        Limits, see :class:`~wsi_anomaly.reproduce.plan.Plan`.

    Raises
    ------
    UsageError
        Pieces are missing or damaged; the sentence lists them and says where to get them.
    """

    errors: tuple[str, ...] = ()
    divided_by_seed = False

    def __init__(
        self, key: str, data: Path, *, learn: int | None = None, judge: int | None = None
    ) -> None:
        self.key = key
        self.classes = CIFAR10 if key == "cifar10" else SVHN
        self._most = (learn, judge)
        name = {"cifar10": "CIFAR-10", "svhn": "SVHN"}[key]
        if _is_torchvisions(key, data):
            halves = _from_torchvision(key, data)
            self.title = name
        else:
            halves, lossy = _from_files(key, data, self.classes)
            self.title = f"{name} (JPEG)" if lossy else name
        (self._train, self._train_kind), (self._test, self._test_kind) = halves
        self.notes: tuple[str, ...] = (
            (
                f"{len(self._train):,} training and {len(self._test):,} test images of {_SIDE} "
                "px; one class is normal, nine are not."
            ),
            (
                f"{KNOWN} training images of one other class, the one that the paper chose by, are "
                "the known anomalies; they weigh the fusion and nothing else."
            ),
        )
        if "JPEG" in self.title:
            self.notes += ("A lossy copy: its figures are not those of the original.",)

    def problem(self, name: str, *, size: int, equalise: bool, seed: int) -> Problem:
        """Read the problem whose normal class is `name`."""
        del equalise, seed
        learn, judge = self._most
        kind = self.classes.index(name)
        mine = draw(np.flatnonzero(self._train_kind == kind), learn)
        other = CHOSEN_BY[self.key][name]
        known = draw(np.flatnonzero(self._train_kind == self.classes.index(other)), KNOWN)
        abnormal = self._test_kind != kind
        chosen = judged(abnormal, np.arange(len(self._test)), judge)
        return Problem(
            name,
            resized(self._train[mine], size),
            len(self._test) + mine,
            resized(self._test[chosen], size),
            abnormal[chosen],
            chosen,
            np.array(self.classes)[self._test_kind[chosen]],
            resized(self._train[known], size),
            other,
        )


Half = tuple[NDArray[np.uint8], NDArray[np.intp]]


def _is_torchvisions(key: str, data: Path) -> bool:
    names = {"cifar10": ("cifar-10-batches-py",), "svhn": ("train_32x32.mat", "test_32x32.mat")}
    return data.is_dir() and any((data / name).exists() for name in names[key])


def _from_torchvision(key: str, data: Path) -> list[Half]:
    from torchvision import datasets

    halves = []
    try:
        for half in _HALVES:
            # torchvision checks the files' MD5 sums before it opens them.
            if key == "cifar10":
                found = datasets.CIFAR10(str(data), train=half == "train", download=False)
                halves.append((np.asarray(found.data), np.array(found.targets, np.intp)))
            else:
                found = datasets.SVHN(str(data), split=half, download=False)
                pixels = np.ascontiguousarray(found.data.transpose(0, 2, 3, 1))
                halves.append((pixels, np.array(found.labels, np.intp)))
    except (RuntimeError, OSError, ValueError) as error:
        raise UsageError(
            f"{data} has files of {key} that are missing or damaged; {_WHERE[key]}."
        ) from error
    return halves


def _from_files(key: str, data: Path, classes: tuple[str, ...]) -> tuple[list[Half], bool]:
    """Images from folders or a zip file, and whether any of them is a JPEG."""
    images: dict[tuple[str, str], list[NDArray[np.uint8]]] = {}
    lossy = False
    for name, content in _files(key, data):
        half, kind = PurePosixPath(name).parts[-3:-1]
        if half not in _HALVES or kind not in classes:
            continue
        lossy |= not name.lower().endswith(".png")
        try:
            with Image.open(content) as opened:
                pixels = np.asarray(opened.convert("RGB"))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise UsageError(f"{name} is no readable image; take it out of {data}.") from error
        if pixels.shape != (_SIDE, _SIDE, 3):
            raise UsageError(f"{name} should have {_SIDE} x {_SIDE} px, as all images of {key}.")
        images.setdefault((half, kind), []).append(pixels)
    missing = [
        f"{half}/{kind}/" for half in _HALVES for kind in classes if (half, kind) not in images
    ]
    if missing:
        raise UsageError(
            f"{data} does not hold {key}: there are no images in {', '.join(missing)}; "
            f"{_WHERE[key]}, or a folder or zip file of train/<class>/ and test/<class>/."
        )
    halves = []
    for half in _HALVES:
        parts = [images[half, kind] for kind in classes]
        halves.append(
            (
                np.stack([image for part in parts for image in part]),
                np.repeat(np.arange(len(classes)), [len(part) for part in parts]),
            )
        )
    return halves, lossy


def _files(key: str, data: Path) -> Iterator[tuple[str, Path | io.BytesIO]]:
    if data.is_dir():
        for path in sorted(data.glob("*/*/*")):
            if path.suffix.lower() in _SUFFIXES:
                yield path.as_posix(), path
        return
    try:
        with zipfile.ZipFile(data) as archive:
            for name in sorted(archive.namelist()):
                inside = PurePosixPath(name)
                if inside.suffix.lower() in _SUFFIXES and len(inside.parts) >= 3:
                    yield name, io.BytesIO(archive.read(name))
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{data} is missing, or no folder and no zip file; {_WHERE[key]}."
        ) from error
