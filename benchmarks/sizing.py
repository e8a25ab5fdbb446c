"""What a slide costs on one core: the sizing table of docs/cluster.md.

    python benchmarks/sizing.py [SLIDE] [--copies 5] [--rounds 5]

Runs ``tile`` and ``score`` (the shipped model) as a user does, one worker of one thread, on one
slide and on some copies of it. What each further copy adds is the cost of a slide; the rest is
that of starting the program, once a run. CPU time, medians.

Without SLIDE: the larynx slide of the project's data, or a drawn slide where that is missing.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import find_slide, finish, parser_of

COMMANDS = {
    "tile_10x": ["tile", "--magnifications", "10", "-o"],
    "tile_20x": ["tile", "--magnifications", "20", "-o"],
    "tile_40x": ["tile", "--magnifications", "40", "-o"],
    "tile_all": ["tile", "-o"],
    "score": ["score", "--heatmap", "--device", "cpu", "-o"],
}


def run(command: list[str], slides: Path, out: Path) -> float:
    """CPU seconds of a run and of its workers."""
    words = [sys.executable, "-m", "wsi_anomaly", *command, str(out), str(slides), "--workers", "1"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, check=True, capture_output=True, cwd=out.parent)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(slide: Path, copies: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Run all commands on one slide and on its copies."""
    for name, count in (("one", 1), ("many", copies)):
        (folder / name).mkdir()
        for k in range(count):
            shutil.copy(slide, folder / name / f"{k}{slide.suffix}")
    out = folder / "out"
    found: dict[str, Any] = {}
    for name, command in COMMANDS.items():
        starts, slides = [], []
        for turn in range(rounds + 1):
            taken = {}
            for kind in ("one", "many"):
                taken[kind] = run(command, folder / kind, out)
                size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
                shutil.rmtree(out)
            if turn:  # the first one compiles
                each = (taken["many"] - taken["one"]) / (copies - 1)
                slides.append(each)
                starts.append(taken["one"] - each)
        each = statistics.median(slides)
        found[name] = {
            "cpu_s": round(each, 2),
            "start_cpu_s": round(statistics.median(starts), 2),
            "slides_per_hour_and_core": round(3600 / each),
            "mb": round(size / copies / 1e6, 1),
        }
        print(name, found[name], file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Run and print JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("slide", nargs="?", type=Path)
    parser.add_argument("--copies", type=int, default=5)
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slide = asked.slide or find_slide(folder)
        measured = measure(slide, asked.copies, asked.rounds, folder)
    finish({"slide": slide.name, "copies": asked.copies, "commands": measured}, asked.json)


if __name__ == "__main__":
    main()
