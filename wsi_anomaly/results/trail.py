"""A record of what was done to a results folder that shows whether it was changed since.

``results/audit.jsonl`` is only added to: a line for every run, every scored slide, every review
and every mark. Each line holds the SHA-256 of the one before, so that none can be changed, taken
out or put in without the next one showing it; the hash of the last line, noted elsewhere, seals
the whole. It shows what happened, and protects from accidents and from later changes; who can write
the folder and this program can make a new trail, but not one that ends in the hash that was noted.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from wsi_anomaly import __version__
from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.core.files import output_errors
from wsi_anomaly.core.locks import alone_with

TRAIL = "audit.jsonl"
VERSION = 1
START = "0" * 64
"""What the first line names as the hash of the one before it."""

_LONGEST_LINE = 1 << 20
_LARGEST = 1 << 30  # bytes


def append_event(results: Path, event: str, facts: Mapping[str, Any]) -> None:
    """Add a line to the trail of a results folder; once this returns it is on the disk.

    Parameters
    ----------
    results
        The folder.
    event
        ``run``, ``scored``, ``review``, ``mark`` or ``report``.
    facts
        What is to be known of it, JSON values.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    path = results / TRAIL
    with output_errors(path), alone_with(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        try:
            last, torn = _last_line(handle)
            entry = {
                "version": VERSION,
                "previous": START if last is None else hashlib.sha256(last).hexdigest(),
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "user": _user(),
                "machine": platform.node(),
                "program": __version__,
                "event": event,
                **facts,
            }
            # A line that a killed program has left unfinished is ended, and shows as damaged.
            line = (b"\n" if torn else b"") + orjson.dumps(entry) + b"\n"
            size = os.fstat(handle).st_size
            try:
                if os.write(handle, line) != len(line):
                    raise OutputError(
                        f"{path} cannot be written: the disk is full; free some space."
                    )
                os.fsync(handle)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.ftruncate(handle, size)  # half a line would show as a damaged one
                raise
        finally:
            os.close(handle)


def _last_line(handle: int) -> tuple[bytes | None, bool]:
    """Last line without its end, and whether it has none."""
    size = os.fstat(handle).st_size
    if not size:
        return None, False
    tail = os.pread(handle, _LONGEST_LINE, max(0, size - _LONGEST_LINE))
    torn = not tail.endswith(b"\n")
    return tail.rstrip(b"\n").rsplit(b"\n", 1)[-1], torn


def _user() -> str:
    with contextlib.suppress(OSError, KeyError, ImportError):
        return getpass.getuser()
    return ""


def read_trail(results: Path) -> tuple[list[dict[str, Any]], list[str], str]:
    """Read a trail and see that each line follows the one before.

    Returns
    -------
    The lines that are whole; a sentence for each that is not, or does not follow; the hash of the
    last line, :data:`START` where there is none.

    Raises
    ------
    OutputError
        It cannot be read.
    """
    path = results / TRAIL
    events: list[dict[str, Any]] = []
    problems: list[str] = []
    previous = START
    try:
        for number, line in enumerate(_lines(path), start=1):
            try:
                entry = orjson.loads(line)
                if not isinstance(entry, dict) or not isinstance(entry.get("event"), str):
                    raise ValueError("no event")
            except ValueError:
                problems.append(f"Line {number} of {path} is damaged.")
            else:
                if entry.get("previous") != previous:
                    problems.append(
                        f"Line {number} of {path} does not follow the one before: a line was "
                        "changed, taken out or put in."
                    )
                events.append(entry)
            previous = hashlib.sha256(line).hexdigest()
    except OSError as error:
        raise OutputError(
            f"{path} cannot be read ({error.strerror}); look at its permissions and its disk."
        ) from error
    return events, problems, previous


def _lines(path: Path) -> Iterator[bytes]:
    if not path.exists():
        return
    if not path.is_file() or path.is_symlink() or path.stat().st_size > _LARGEST:
        raise OutputError(f"{path} is no trail; move it elsewhere.")
    with path.open("rb") as file:
        while line := file.readline(_LONGEST_LINE):
            yield line.rstrip(b"\n")


def scored_event(folder: Path, name: str) -> dict[str, Any]:
    """Say of a result that is whole what its trail keeps; `name` is its folder's, at last.

    Raises
    ------
    OutputError
        It cannot be read again.
    """
    with output_errors(folder):
        written = (folder / "summary.json").read_bytes()
    summary = json.loads(written)  # names may hold bytes that are no text, which orjson refuses
    return {
        "result": name,
        "fingerprint": summary["slide"]["fingerprint"],
        "result_hash": summary["result_hash"],
        "model": summary["model"]["hash"],
        "summary_sha256": hashlib.sha256(written).hexdigest(),
    }


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a result but its summary; a folder (``scores.zarr``) has one."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name != "summary.json":
            found[path.name] = _of_folder(path) if path.is_dir() else _of_file(path)
    return found


def _of_folder(folder: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        whole.update(f"{path.relative_to(folder).as_posix()} {_of_file(path)}\n".encode())
    return whole.hexdigest()


def _of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_folder(results: Path, model_hash: str) -> Path | None:
    """Folder of a model with which slides were scored, as the trail noted it; None: it does not.

    Raises
    ------
    OutputError
        The trail cannot be read.
    """
    events = read_trail(results)[0]
    of_model = (e for e in reversed(events) if e["event"] == "run" and e.get("model") == model_hash)
    found = next((e["model_folder"] for e in of_model if "model_folder" in e), None)
    return Path(found) if isinstance(found, str) else None
