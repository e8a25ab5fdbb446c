"""An archive of drawn slides of many sizes, and commands of the program watched while they run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

_LEAST_MM = 1.0
_LESIONED = 10  # one slide in so many
_POLL_SECONDS = 0.5
_MPP = 1.0


def draw_archive(folder: Path, slides: int, different: int, largest_mm: float) -> None:
    """Write so many slides of 1 mm a side or more, from so many really drawn, in two processes.

    Sides are drawn by a density that falls with their fourth power: most are small. A tenth has
    lesions (``x``), the others have none (``n``). What is not drawn is a drawn one turned or
    mirrored and dyed a little differently: another slide to the program, the same tissue to a
    pathologist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shares = [range(k, different, 2) for k in range(2)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for part in [pool.submit(_draw, folder, slides, different, largest_mm, s) for s in shares]:
            part.result()


def _draw(folder: Path, slides: int, different: int, largest_mm: float, share: range) -> None:
    from wsi_anomaly.synthetic import make_slide

    numbers = np.random.default_rng(0).permutation(slides)  # sizes come in no order
    largest = 1 - (_LEAST_MM / largest_mm) ** 3
    tenth = -(-different // _LESIONED)
    for seed in share:
        lesioned = seed % _LESIONED == 0
        # Both kinds have every size: a place from 0, the smallest, to 1.
        at = seed // _LESIONED / max(1, tenth - 1) if lesioned else seed / max(1, different - 1)
        side_px = round(1000 * _LEAST_MM / np.cbrt(1 - at * largest) / _MPP)
        drawn = folder / f".{seed}.tif"
        make_slide(
            drawn, seed=seed, size_px=(side_px, side_px), mpp=_MPP,
            lesions="easy" if lesioned else None,
        )  # fmt: skip
        image = tifffile.imread(drawn, key=0)
        drawn.unlink()
        for turn, k in enumerate(range(seed, slides, different)):
            name = f"{'x' if lesioned else 'n'}{numbers[k]:05}.tif"
            _write(folder / name, _changed(image, turn))


def _changed(image: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """One of eight turned and mirrored pictures, dyed differently each time they recur."""
    image = np.rot90(image, turn % 4)
    if turn % 8 >= 4:
        image = image[:, ::-1]
    density = 1 + 0.04 * np.random.default_rng(turn).uniform(-1, 1, 3)  # of the colours
    values = np.arange(256) / 255
    table = np.round(255 * values[:, None] ** density).astype(np.uint8)
    return np.stack([table[image[..., c], c] for c in range(3)], axis=-1)


def _write(path: Path, image: NDArray[np.uint8]) -> None:
    with tifffile.TiffWriter(path) as tif:
        level = 0
        while level == 0 or min(image.shape[:2]) >> level >= 256:
            per_cm = 1e4 / _MPP / 2**level
            tif.write(
                image[:: 2**level, :: 2**level], tile=(256, 256), photometric="rgb",
                compression="jpeg", compressionargs={"level": 80}, metadata=None,
                subfiletype=int(level > 0), resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
            )  # fmt: skip
            level += 1


def watched(words: Sequence[str], folder: Path, pattern: str, every: int = 20) -> dict[str, Any]:
    """Run ``wsi-anomaly`` as a user does; note the memory of its processes after so many slides.

    Parameters
    ----------
    words
        The command and its options.
    folder
        Where it runs.
    pattern
        Of the files that say that a slide is done.
    every
        Slides from one note to the next.

    Returns
    -------
    Seconds, seconds of the processors, code of exit, and megabytes: peaks of the parent and of
    its largest process, and for every note slides done, the parent's and each worker's.
    """
    start = time.perf_counter()
    log = folder / f"{words[0]}.log"
    with log.open("w") as out:
        command = [sys.executable, "-m", "wsi_anomaly", *words]
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
    notes: list[list[float]] = []
    peaks: dict[int, float] = {}
    parent = process.pid
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        parent = _working(process.pid, parent)
        now = {pid: _memory(pid) for pid in (parent, *_children(parent))}
        for pid, (_own, peak) in now.items():
            if pid != process.pid or parent == pid:
                peaks[pid] = max(peak, peaks.get(pid, 0))
        count = len([*folder.glob(pattern)])
        if count and (not notes or count >= notes[-1][0] + every):
            workers = sorted(own for pid, (own, _peak) in now.items() if pid != parent)
            notes.append([count, now[parent][0], *workers])
        time.sleep(_POLL_SECONDS)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "parent_peak_mb": round(peaks.pop(parent)),
        "worker_peak_mb": round(max(peaks.values(), default=0)),
        "slides_parent_workers_mb": notes,
        "worker_grows_kb_a_slide": _slope(notes),
        "last_line": log.read_text().strip().splitlines()[-1:],
    }


def _working(pid: int, known: int) -> int:
    """Process that works: the one begun may wait for a fork of itself (``cli/guarded.py``)."""
    if known != pid:
        return known
    words = _words(pid)
    return next((child for child in _children(pid) if _words(child) == words), pid)


def _children(pid: int) -> list[int]:
    found = [
        int(child)
        for task in Path(f"/proc/{pid}/task").glob("*/children")
        for child in task.read_text().split()
    ]
    words = {child: _words(child) for child in found}
    return sorted(k for k, said in words.items() if said and b"resource_tracker" not in said)


def _words(pid: int) -> bytes:
    """Command line of a process; nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _memory(pid: int) -> tuple[float, float]:
    """Own memory now, and the peak of all, MiB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has just ended
        return 0.0, 0.0
    found = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith(" kB")}
    own, peak = (round(int(found.get(key, 0)) / 1024, 1) for key in ("RssAnon", "VmHWM"))
    return own, peak


def _slope(notes: list[list[float]]) -> dict[str, float]:
    """Growth of the mean worker by slides that one worker has done: each quarter of the run."""
    rows = [(n[0] / (len(n) - 2), float(np.mean(n[2:]))) for n in notes if len(n) > 2]
    found = {}
    for k, part in enumerate(np.array_split(np.array(rows), 4) if len(rows) >= 12 else [], 1):
        found[f"quarter {k}"] = round(1024 * float(np.polyfit(part[:, 0], part[:, 1], 1)[0]), 1)
    return found


def left(folder: Path) -> dict[str, float]:
    """Files and megabytes in a folder."""
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    return {"files": len(sizes), "mb": round(sum(sizes) / 1e6, 1)}


def run_archive(
    folder: Path, slides: int, different: int, largest_mm: float, workers: int = 2
) -> dict[str, Any]:
    """Draw an archive and take it through tile, train, score.

    What is measured is written to ``measured.json`` after each step; what stands there is not done
    again.
    """
    record = folder / "measured.json"
    found: dict[str, Any] = {"slides": slides, "different": different, "largest_mm": largest_mm}
    if record.is_file():
        found = json.loads(record.read_text())
    if "drawn" not in found:
        draw_archive(folder / "slides", slides, different, largest_mm)
        found["drawn"] = left(folder / "slides")
        record.write_text(json.dumps(found, indent=1))
    normal = [f"tiles/{path.stem}.h5" for path in sorted((folder / "slides").glob("n*.tif"))]
    own = ["--workers", str(workers)]
    steps = {
        "tile": (["slides", "--compression", "jpeg", *own], "tiles", "*.h5"),
        "train": ([*normal, "--detector", "density", "-o", "model"], "model", "*.json"),
        "score": (["slides", *own], "results", "[!.]*/summary.json"),
    }
    for verb, (words, made, pattern) in steps.items():
        if verb in found:
            continue
        found[verb] = watched([verb, *words], folder, f"{made}/{pattern}")
        found[verb]["left"] = left(folder / made)
        found[verb]["made"] = len([*folder.glob(f"{made}/{pattern}")])
        record.write_text(json.dumps(found, indent=1))
        print(verb, found[verb], file=sys.stderr, flush=True)
    return found
