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
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.core.remote import is_remote, open_remote

PARTIAL_SUFFIX = ".partial"
_FORMER_SUFFIX = ".former"
_LEFT_BEHIND = re.compile(
    r"\.(?P<name>.+)\.(?P<machine>[0-9a-f]{8})\.(?P<process>\d+)"
    r"(?P<kind>(\.former)?\.partial|\.former)"
)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST)
_LEFT_BEHIND_SECONDS = 24 * 3600.0
_SWAPS = 100
_BLOCK = 1 << 16
_SAMPLED_BLOCKS = 64

Known = tuple[tuple[int, ...], str]
"""Fingerprint of a file, after what tells whether the file is still the same."""

# A file changed just now may change again without its times showing it: they have a grain.
_SETTLED_SECONDS = 2.0
_known: dict[Path, Known] = {}
_tidied: set[Path] = set()


def fingerprint(path: str | os.PathLike[str]) -> str:
    """Identity of a slide file by content: 16 hexadecimal digits.

    Hashes the size and up to 64 blocks of 64 KiB spread evenly over the file (first and last
    included), so that a 4 GB slide costs 4 MB of reading and a renamed copy is still recognised.
    A file of this machine is read once, until it changes. It may be an address that fsspec opens.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    if is_remote(path):
        return _digest(path)
    known = known_fingerprint(path)
    if known is None:
        stamp = _stamp(path)  # before it is read: a change in between shows
        known = stamp, _digest(path)
        if time.time() - stamp[2] / 1e9 > _SETTLED_SECONDS:
            remember_fingerprint(path, known)
    return known[1]


def known_fingerprint(path: str | os.PathLike[str]) -> Known | None:
    """Return what this process knows of a file that has not changed since; to send along."""
    known = _known.get(Path(path).absolute())
    with contextlib.suppress(OSError):
        if known is not None and known[0] == _stamp(path):
            return known
    return None


def remember_fingerprint(path: str | os.PathLike[str], known: Known) -> None:
    """Take in what another process knows of a file; of no effect once the file has changed."""
    _known[Path(path).absolute()] = known


def _stamp(path: str | os.PathLike[str]) -> tuple[int, ...]:
    is_now = Path(path).stat()
    return is_now.st_size, is_now.st_mtime_ns, is_now.st_ctime_ns, is_now.st_ino


def _digest(path: str | os.PathLike[str]) -> str:
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
        errno.ENAMETOOLONG: "the name is too long for this disk; rename the slide",
    }.get(error.errno or 0, error.strerror or str(error))
    for_all = error.errno in _FULL or not _takes_files(path)
    return OutputError(f"{path} cannot be written: {reason}.", for_all=for_all)


def _takes_files(path: Path) -> bool:
    """Whether another file than this one can be written where it was to stand."""
    try:
        folder = next(parent for parent in path.absolute().parents if parent.is_dir())
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


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


@cache
def _machine() -> str:
    """Short name of what gives out process numbers: this machine, or a container on it."""
    numbers = ""
    with contextlib.suppress(OSError):  # only Linux says
        numbers = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - no path, a name
    return hashlib.sha256(f"{platform.node()} {numbers}".encode()).hexdigest()[:8]


def _partial_end() -> str:
    return f".{_machine()}.{os.getpid()}{PARTIAL_SUFFIX}"


def partial_name(path: Path) -> Path:
    """Name under which a file or folder is made; what a killed process leaves there goes."""
    return path.with_name(f".{path.name}{_partial_end()}")


def to_disk(path: Path) -> None:
    """Have what was written of a file, or of the list of a folder, lie on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush(target: Path, written: Iterable[Path]) -> None:
    """Flush what was written for `target` to the disk.

    Not if the target lies in a partial folder of this process: that is flushed as a whole, once,
    before it gets its name.
    """
    if not any(parent.name.endswith(_partial_end()) for parent in target.parents):
        for path in written:
            to_disk(path)


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
    partial = partial_name(path)
    try:
        with output_errors(path):
            yield partial
            _flush(path, [partial])
            partial.replace(path)
            _flush(path, [path.parent])
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a partial folder to fill; it takes the place of `path` when the block ends well.

    A folder cannot be replaced in one step: the former one is first moved aside, so for an
    instant neither stands there, but never a mixture of the two. Whatever goes wrong in that
    instant, the former one comes back. What killed processes left beside it goes first.

    Raises
    ------
    OutputError
        The folder cannot be written. The former content of `path` is untouched; if even moving it
        back fails, the message says under which name it is.
    """
    path = Path(path)
    make_folder(path.parent)
    partial = partial_name(path)
    former = partial.with_suffix(_FORMER_SUFFIX)
    shutil.rmtree(partial, ignore_errors=True)
    if path.parent not in _tidied:  # once: a folder of thousands is not listed for each of them
        remove_left_behind(path.parent)
        _tidied.add(path.parent)
    try:
        with output_errors(path):
            if former.exists():  # this process could not move it back before
                _settle(former, path)
            if path.is_file():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            partial.mkdir()
            yield partial
            _flush(path, [*partial.rglob("*"), partial])
            try:
                _take_place(partial, path, former)
            except BaseException:  # Ctrl-C too
                _bring_back(former, path)
                raise
            _flush(path, [path.parent])
            _discard(former)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _take_place(partial: Path, path: Path, former: Path) -> None:
    """Rename a folder over another one; other processes may do the same at the same moment."""
    for swap in range(_SWAPS):
        with contextlib.suppress(FileNotFoundError):  # none there, or another has just moved it
            os.utime(path)  # or it would look left behind
            path.rename(former)
        try:
            partial.rename(path)
        except OSError as error:
            # Another process has put its own there in between.
            if error.errno not in _OCCUPIED or swap == _SWAPS - 1:
                raise
            _discard(former)
        else:
            return


def _bring_back(former: Path, path: Path) -> None:
    """Undo half a swap. Asks the disk how far it came: an interrupted step may yet be done."""
    try:
        former.lstat()
        former.rename(path)
    except FileNotFoundError:
        pass  # nothing was moved aside
    except OSError as error:
        if not os.path.lexists(path):
            reason = error.strerror or error
            raise OutputError(
                f"{path} could not be replaced, nor its former content moved back ({reason}); "
                f"it is whole in {former}: rename that folder to {path.name}."
            ) from error


def _settle(former: Path, path: Path) -> None:
    """Bring a former folder back, or delete it if a successor stands in its place."""
    try:
        former.rename(path)
    except OSError as error:
        if error.errno not in _OCCUPIED:
            raise
        _discard(former)


def _discard(former: Path) -> None:
    """Delete a folder under a name from which nothing comes back half deleted."""
    doomed = former.with_name(former.name + PARTIAL_SUFFIX)
    with contextlib.suppress(OSError):  # what is left goes with the next run
        shutil.rmtree(doomed, ignore_errors=True)
        former.rename(doomed)
        shutil.rmtree(doomed)


def remove_left_behind(folder: str | os.PathLike[str], name: str = "") -> None:
    """Delete what processes left in `folder` when they were killed while they wrote.

    With `name` only what they left of the file or folder of that name.

    Partial files and folders go when their process of this machine has ended, and after a day:
    younger ones may belong to a process on another machine that writes there too. A former folder
    that was moved aside, and whose successor never took its place, comes back; of several the one
    that was moved last.
    """
    left = []
    for path in Path(folder).glob(".*"):
        found = _LEFT_BEHIND.fullmatch(path.name)
        if found is None or name not in ("", found["name"]):
            continue
        with contextlib.suppress(OSError):
            if _is_left_behind(path, found["machine"], int(found["process"])):
                left.append((path.stat().st_mtime, path, found))
    for _, path, found in sorted(left, reverse=True):
        with contextlib.suppress(OSError):
            if found["kind"] == _FORMER_SUFFIX:
                _settle(path, path.with_name(found["name"]))
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _is_left_behind(path: Path, machine: str, process: int) -> bool:
    if time.time() - path.stat().st_mtime > _LEFT_BEHIND_SECONDS:
        return True
    return machine == _machine() and _has_ended(process)


def _has_ended(process: int) -> bool:
    """Whether no such process of this machine works any more."""
    try:
        os.kill(process, 0)  # asks only
    except ProcessLookupError:
        return True
    try:
        state = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2]
    except OSError:  # another system, or it has ended just now
        return False
    # A killed process whose parent, killed as well, has not asked for it answers still.
    return state.split()[:1] == ["Z"]


def write_text(path: str | os.PathLike[str], text: str) -> None:
    r"""Write a text file (UTF-8) atomically.

    Of a file's name that is no UTF-8, bytes are written as ``\udce4``: JSON gives them back.
    """
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write readable JSON atomically; NaN and infinity are refused, as JSON has neither."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
