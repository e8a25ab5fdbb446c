"""Slides of a slow disk, copied to a fast one ahead of the work and removed after it.

Pixels alone are read from a copy: names, identities and messages are those of the original. Slides
of one file are copied. What is several files (DICOM, MIRAX, DeepZoom, VMS), lies at an address or
is read by another package stays where it is, as does what does not fit.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from wsi_anomaly.core.files import partial_name, remove_left_behind
from wsi_anomaly.core.remote import is_remote

_ONE_FILE = frozenset({".svs", ".tif", ".tiff", ".ndpi", ".scn", ".svslide", ".bif", ".czi"})
_LEFT_FREE = 1 << 29  # bytes, for what else is written on that disk
_BLOCK = 1 << 22
_POLL_S = 0.1
_TIMEOUT_S = 120.0  # as long as a read of the slide itself is waited for
_END_S = 5.0

_copies: dict[Path, Path] = {}


def where_read(slide: Path) -> Path:
    """Say which file the bytes of a slide come from: its copy while there is one, else itself."""
    copy = _copies.get(slide)
    return copy if copy is not None and copy.exists() else slide


@dataclass(frozen=True)
class Cache:
    """A fast disk for copies of slides.

    Attributes
    ----------
    folder
        Where they are made, in a folder of their own.
    note
        Told which slides are not copied, and why; once for each reason.
    leave
        Slides that need no copy.
    """

    folder: Path
    note: Callable[[str], None]
    leave: frozenset[Path] = frozenset()


@dataclass(frozen=True)
class Copy:
    """A slide and the file that will be its copy; another process may wait for it."""

    slide: Path
    file: Path

    @property
    def refused(self) -> Path:
        """File that stands there when there will be no copy."""
        return self.file.with_suffix(".none")

    @property
    def part(self) -> Path:
        """What is copied already."""
        return self.file.with_suffix(".part")

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Read the slide from its copy inside, once that is there; else from where it lies."""
        if not self._arrives():
            yield
            return
        _copies[self.slide] = self.file
        try:
            yield
        finally:
            del _copies[self.slide]

    def _arrives(self) -> bool:
        copied, since = -1, time.monotonic()
        while not self.file.exists():
            if self.refused.exists() or not self.file.parent.exists():
                return False
            now = sum(_size(part) for part in self.file.parent.glob(f"*{self.part.suffix}"))
            if now != copied:
                copied, since = now, time.monotonic()
            elif time.monotonic() - since > _TIMEOUT_S:  # the disk hangs; reading will say so
                return False
            time.sleep(_POLL_S)
        return True


def _size(file: Path) -> int:
    with contextlib.suppress(OSError):
        return file.stat().st_size
    return 0


class Copies:
    """Copies of slides, made in a thread in the order of the work, a few at a time.

    Parameters
    ----------
    cache
        Where; None: there are none.
    slides
        All slides of the work.
    workers
        So many are read at once; one copy more is there or being made.
    """

    def __init__(self, cache: Cache | None, slides: Sequence[Path], workers: int) -> None:
        self._cache, self._slides = cache, slides
        self._copies: list[Copy | None] = [None] * len(slides)
        self._free = threading.Semaphore(workers + 1)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._held: set[int] = set()
        self._over: set[int] = set()
        self._reasons: dict[int | None, str] = {}
        self._said = 0
        self._thread: threading.Thread | None = None
        self._own: Path | None = None

    def __enter__(self) -> Self:
        if self._cache is None:
            return self
        folder = self._cache.folder
        own = partial_name(folder / f"slides-{uuid.uuid4().hex[:8]}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            remove_left_behind(folder)
            own.mkdir(mode=0o700)
        except OSError as error:
            self._cache.note(
                f"{folder} takes no copies of slides ({error.strerror or error}): they are read "
                "where they lie."
            )
            return self
        self._own = own
        self._copies = [
            Copy(slide, own / f"{i}{slide.suffix}")
            if _is_one_file(slide) and slide not in self._cache.leave
            else None
            for i, slide in enumerate(self._slides)
        ]
        self._thread = threading.Thread(target=self._make, name="copies", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._free.release()
        if self._thread is not None:
            self._thread.join(_END_S)
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)
        self._say()

    def __getitem__(self, index: int) -> Copy | None:
        return self._copies[index]

    def done(self, index: int) -> None:
        """Remove a copy whose work is over, so that the next can be made."""
        with self._lock:
            self._over.add(index)
            held = index in self._held
            self._held.discard(index)
        copy = self._copies[index]
        if held and copy is not None:
            copy.file.unlink(missing_ok=True)
            self._free.release()
        self._say()

    def _say(self) -> None:
        for sentence in list(self._reasons.values())[self._said :]:
            self._said += 1
            if self._cache is not None:
                self._cache.note(sentence)

    def _make(self) -> None:
        for index, copy in enumerate(self._copies):
            if copy is None:
                continue
            self._free.acquire()
            if self._stop.is_set():
                return
            whole = False
            try:
                whole = index not in self._over and self._copied(copy)
            except OSError as error:
                self._reasons.setdefault(
                    error.errno,
                    f"{copy.slide} was not copied to {copy.file.parent.parent} "
                    f"({error.strerror or error}) and is read where it lies, as is every other "
                    "slide of which that is true.",
                )
            with self._lock:
                if whole and index not in self._over:
                    copy.part.replace(copy.file)
                    self._held.add(index)
                    continue
            with contextlib.suppress(OSError):
                copy.part.unlink(missing_ok=True)
                copy.refused.touch()
            self._free.release()

    def _copied(self, copy: Copy) -> bool:
        """Copy a slide; False when it is stopped, or the slide changes meanwhile."""
        before = copy.slide.stat()
        if shutil.disk_usage(copy.file.parent).free < before.st_size + _LEFT_FREE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with copy.slide.open("rb") as slide, copy.part.open("xb") as part:
            while block := slide.read(_BLOCK):
                if self._stop.is_set():
                    return False
                part.write(block)
            size = part.tell()
        after = copy.slide.stat()
        same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        return same and size == before.st_size


def _is_one_file(slide: Path) -> bool:
    return slide.suffix.lower() in _ONE_FILE and not is_remote(slide)
