"""Bytes of a slide file from anywhere in it, from several threads at once."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import IO, Protocol, cast

from wsi_anomaly.core.errors import NotASlideError
from wsi_anomaly.core.remote import is_remote, open_remote, reason_of, remote_place, url_of
from wsi_anomaly.core.staging import where_read

_REMOTE_HEADER_BLOCK = 1 << 18  # read ahead while the structure is parsed


class Source(Protocol):
    """Somewhere bytes come from."""

    def read(self, offset: int, size: int) -> bytes:
        """Read `size` bytes, fewer where the file ends; OSError when it cannot be read."""

    def open(self) -> IO[bytes]:
        """Open the whole as a seekable file, to parse its structure."""

    def close(self) -> None:
        """Release it."""


def open_source(path: Path) -> Source:
    """Open a file, or an address through fsspec."""
    return RemoteSource(path) if is_remote(path) else LocalSource(path)


class LocalSource:
    """A file on this machine, or its copy."""

    def __init__(self, path: Path) -> None:
        self._path = where_read(path)
        self._file = self._path.open("rb", buffering=0)
        self._lock = threading.Lock()

    def read(self, offset: int, size: int) -> bytes:
        """Read at a position; threads and forked processes do not disturb one another."""
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), size, offset)
        with self._lock:
            self._file.seek(offset)
            return cast(bytes, self._file.read(size))

    def open(self) -> IO[bytes]:
        """Open a second handle."""
        return self._path.open("rb")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class RemoteSource:
    """An address that fsspec opens; each read is one request."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._system, self._inside = remote_place(path)
        try:
            self.size = int(self._system.size(self._inside))
        except Exception as error:
            raise NotASlideError(
                f"{url_of(path)} cannot be reached ({reason_of(error)}); check the address and "
                "your access."
            ) from error

    def read(self, offset: int, size: int) -> bytes:
        """Read at a position."""
        end = min(offset + size, self.size)
        if offset >= end:
            return b""
        try:
            return cast(bytes, self._system.cat_file(self._inside, start=offset, end=end))
        except Exception as error:
            raise OSError(reason_of(error)) from error

    def open(self) -> IO[bytes]:
        """Open as a file."""
        return open_remote(self._path, _REMOTE_HEADER_BLOCK)

    def close(self) -> None:
        """Leave the connection to fsspec, which shares it."""
