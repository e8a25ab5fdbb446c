"""One rival in its own environment: loads, says "ready", then runs once for each line it gets.

    python worker.py MODULE WAY JOB.json

Runs in every peer's environment: standard library and NumPy only.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path


def peak_mb() -> float:
    """Peak resident memory of this process so far, MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def main() -> None:
    """Answer each line on standard input with one line of JSON."""
    module, way, job = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what peers print goes to the log
    prepare = getattr(importlib.import_module(module), way)
    what = json.loads(Path(job).read_text(encoding="utf-8"))
    run = prepare(what)
    before = peak_mb()
    print(json.dumps({"ready": True}), file=answers)
    for _ in sys.stdin:
        if "out" in what:  # everybody makes a new file: emptying an old one would count
            Path(what["out"]).unlink(missing_ok=True)
        wall, cpu = time.perf_counter(), time.process_time()
        found = run()
        taken = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        print(
            json.dumps({**taken, **found, "peak_mb": peak_mb(), "loaded_mb": before}), file=answers
        )


if __name__ == "__main__":
    main()
