"""Files that are either whole or absent, and the identity of what was read.

An output is written under a partial name of the process's own, flushed to the disk, then renamed
over its final name. A process that dies at any moment leaves at most a ``*.partial`` file, which
nothing ever takes for a finished one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.core.remote import is_remote, open_remote

PARTIAL_SUFFIX = ".partial"
_BLOCK = 1 << 16
_SAMPLED_BLOCKS = 64


def fingerprint(path: str | os.PathLike[str]) -> str:
    """Identity of a slide file by content: 16 hexadecimal digits.

    Hashes the size and up to 64 blocks of 64 KiB spread evenly over the file (first and last
    included), so that a 4 GB slide costs 4 MB of reading and a renamed copy is still recognised.
    The file may be an address that fsspec opens.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    digest = hashlib.sha256()
    with open_remote(path) if is_remote(path) else open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        digest.update(str(size).encode())
        last = max(0, size - _BLOCK)
        steps = min(_SAMPLED_BLOCKS, size // _BLOCK + 1)
        for i in range(steps):
            file.seek(last * i // max(1, steps - 1))
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()[:16]


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def config_hash(config: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that change whenever the configuration does."""
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()[:16]


def _output_error(path: Path, error: OSError) -> OutputError:
    reason = {
        errno.ENOSPC: "the disk is full; free some space and run the same command again",
        errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
        errno.EACCES: "no permission; choose another folder with -o",
        errno.EPERM: "no permission; choose another folder with -o",
        errno.EROFS: "the file system is read-only; choose another folder with -o",
        errno.EEXIST: "a file stands where a folder is needed; move it or choose another with -o",
        errno.ENOTDIR: "a file stands where a folder is needed; move it or choose another with -o",
    }.get(error.errno or 0, error.strerror or str(error))
    return OutputError(f"{path} cannot be written: {reason}.")


@contextlib.contextmanager
def output_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an ``OSError`` raised inside into an :class:`OutputError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise _output_error(Path(path), error) from error


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Create a folder for outputs, with its parents."""
    with output_errors(path):
        Path(path).mkdir(parents=True, exist_ok=True)
    return Path(path)


def _partial_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a partial path to write to; rename it to `path` when the block ends well.

    Raises
    ------
    OutputError
        The folder or the file cannot be written. The former content of `path` is untouched.
    """
    path = Path(path)
    make_folder(path.parent)
    partial = _partial_name(path)
    try:
        with output_errors(path):
            yield partial
            _fsync(partial)
            partial.replace(path)
            _fsync(path.parent)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a partial folder to fill; it takes the place of `path` when the block ends well.

    A folder cannot be replaced in one step: the former one is first moved aside, so for an
    instant neither stands there, but never a mixture of the two.
    """
    path = Path(path)
    make_folder(path.parent)
    partial = _partial_name(path)
    former = path.with_name(f".{path.name}.{os.getpid()}.former")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with output_errors(path):
            partial.mkdir()
            yield partial
            for file in partial.rglob("*"):
                if file.is_file():
                    _fsync(file)
            if path.exists():
                path.rename(former)
            partial.rename(path)
            _fsync(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file (UTF-8) atomically."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write readable JSON atomically; NaN and infinity are refused, as JSON has neither."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
