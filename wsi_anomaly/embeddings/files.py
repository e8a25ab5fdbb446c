"""Which embeddings lie in a folder, of which slides, and how they are opened."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from wsi_anomaly.core.errors import EmbeddingsError, UsageError
from wsi_anomaly.core.file_names import as_text
from wsi_anomaly.core.files import config_hash, fingerprint
from wsi_anomaly.embeddings.base import DAMAGED, Embeddings, Reader
from wsi_anomaly.embeddings.hdf5 import Hdf5
from wsi_anomaly.embeddings.lazyslide import LazySlide
from wsi_anomaly.embeddings.slide2vec import Slide2vec

FORMATS: tuple[Reader, ...] = (Hdf5(), Slide2vec(), LazySlide())


@dataclass(frozen=True)
class EmbeddingsFile:
    """Embeddings of one slide, not opened; picklable.

    Attributes
    ----------
    path, root
        The file or store, and the folder that was searched.
    """

    path: Path
    root: Path

    @property
    def name(self) -> str:
        """Name of the slide, without suffix."""
        return _reader(self.path).name(self.path)

    @property
    def fingerprint(self) -> str:
        """Identity by content.

        Raises
        ------
        OSError
            It cannot be read.
        """
        if not self.path.is_dir():
            return fingerprint(self.path)
        # Of a store, what is read of it: it may hold the slide's pixels too.
        files = [self.path / "zarr.json", self.path / ".zattrs"]
        files += [p for part in ("tables", "shapes") for p in (self.path / part).rglob("*")]
        return config_hash(
            {str(p.relative_to(self.path)): fingerprint(p) for p in files if p.is_file()}
        )

    def from_anywhere(self) -> EmbeddingsFile:
        """Return the same with whole paths."""
        return EmbeddingsFile(self.path.absolute(), self.root.absolute())

    @contextmanager
    def open(self, encoder: str | None = None) -> Iterator[Embeddings]:
        """Open it.

        Parameters
        ----------
        encoder
            The one that is wanted, where there are several.

        Raises
        ------
        EmbeddingsError
            It is missing, damaged, or not what a format says it is.
        """
        try:
            opening = _reader(self.path).open(self.path, self.root, encoder)
            opened = opening.__enter__()
        except DAMAGED as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise EmbeddingsError(
                f"{self.path} cannot be read as embeddings ({reason}); copy it again, or make it "
                "again."
            ) from error
        try:
            yield opened
        finally:
            opening.__exit__(None, None, None)


@dataclass(frozen=True)
class Found:
    """Embeddings in a folder.

    Attributes
    ----------
    files
        One a slide, by the slide's name.
    doubled
        Names with several, and those.
    """

    files: Mapping[str, EmbeddingsFile]
    doubled: Mapping[str, Sequence[EmbeddingsFile]] = field(default_factory=dict)

    def of_each(self, slides: Sequence[Path]) -> list[EmbeddingsFile | EmbeddingsError]:
        """Embeddings of each slide, or why it has none; two slides of one name have none."""
        called: dict[str, list[Path]] = {}
        for slide in slides:
            called.setdefault(as_text(slide.stem), []).append(slide)
        found: list[EmbeddingsFile | EmbeddingsError] = []
        for slide in slides:
            same = called[as_text(slide.stem)]
            try:
                if len(same) > 1:
                    raise EmbeddingsError(
                        f"Two slides are called {as_text(slide.stem)}, {same[0]} and {same[1]}, "
                        "and embeddings are found by name; take them apart, each with its own "
                        "--embeddings."
                    )
                found.append(self.of(slide))
            except EmbeddingsError as error:
                found.append(error)
        return found

    def of(self, slide: Path) -> EmbeddingsFile:
        """Embeddings of a slide: those called as it is.

        Raises
        ------
        EmbeddingsError
            There are none, or several.
        """
        name = as_text(slide.stem)
        if name in self.files:
            return self.files[name]
        if name in self.doubled:
            raise EmbeddingsError(self.of_two(name))
        raise EmbeddingsError(
            f"There are no embeddings called {name} for {slide}; make them, or leave the slide out."
        )

    def of_two(self, name: str) -> str:
        """Say that a slide has several."""
        one, other = self.doubled[name][:2]
        return (
            f"Two files hold embeddings of {name}, {one.path} and {other.path}; give the folder of "
            "one encoder, or take one of them away."
        )


def find_embeddings(folder: str | Path) -> Found:
    """Embeddings in a folder and the folders in it.

    Raises
    ------
    UsageError
        It does not exist, or holds none.
    """
    root = Path(folder)
    if not root.exists():
        raise UsageError(f"{root} does not exist; give a folder of embeddings.")
    by_name: dict[str, list[EmbeddingsFile]] = {}
    for path in sorted(_search(root)):
        file = EmbeddingsFile(path, root if root.is_dir() else root.parent)
        by_name.setdefault(as_text(file.name), []).append(file)
    if not by_name:
        raise UsageError(
            f"{root} holds no embeddings: neither HDF5 of TRIDENT or CLAM, nor tile_embeddings/ of "
            "slide2vec, nor stores (.zarr) of LazySlide."
        )
    return Found(
        {name: files[0] for name, files in by_name.items() if len(files) == 1},
        {name: files for name, files in by_name.items() if len(files) > 1},
    )


def _search(root: Path) -> Iterator[Path]:
    if any(reader.is_one(root) for reader in FORMATS):
        yield root
        return
    for place, folders, names in os.walk(root):
        here = [Path(place, name) for name in sorted(names) if not name.startswith(".")]
        yield from (path for path in here if _known(path))
        for name in list(folders):
            path = Path(place, name)
            if name.startswith(".") or path.suffix.lower() == ".zarr":
                folders.remove(name)
                if not name.startswith(".") and _known(path):
                    yield path


def _known(path: Path) -> bool:
    return any(reader.is_one(path) for reader in FORMATS)


def _reader(path: Path) -> Reader:
    for reader in FORMATS:
        if reader.is_one(path):
            return reader
    raise EmbeddingsError(f"{path} is missing, or holds no embeddings; look at it.")
