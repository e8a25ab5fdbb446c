"""What only a GPU can show, in nine minutes on one card: right, and how fast.

    python benchmarks/gpu.py [--device cuda] [--json FILE] [PART ...]
    python benchmarks/gpu.py --device cpu --short    # what a processor can show, on little data

Each part is a process of its own with its own time limit: a hang costs that part. PASS or FAIL for
every goal; the exit code is 1 where one failed. With ``--short`` nothing that it times is a result.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from common import finish, parser_of

LIMITS = {
    "doctor": 30, "parity": 70, "detectors": 80, "steps": 120, "graph": 30, "scoring": 140,
    "encoder": 30, "nccl": 15, "memory": 15, "missing": 10,
}  # fmt: skip
"""Seconds of each part: 540 in all."""

_SHORT = 300  # a test's machine may be busy


def one(part: str, device: str, *, short: bool) -> dict[str, Any]:
    """Run a part in this process; its figures, with what was to be reached."""
    import gpu_fast
    import gpu_right

    work = getattr(gpu_right, part, None) or getattr(gpu_fast, part)
    return dict(work(device, short))


def apart(part: str, device: str, *, short: bool) -> dict[str, Any]:
    """Run a part in a process of its own, within its limit."""
    command = [sys.executable, __file__, "--device", device, "--one", part]
    limit = _SHORT if short else LIMITS[part]
    start = time.perf_counter()
    try:
        out = subprocess.run(
            [*command, *["--short"] * short],
            check=False, capture_output=True, text=True, timeout=limit,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"error": f"longer than {limit} s", "seconds": limit}
    if out.returncode:
        lines = out.stderr.strip().splitlines() or [f"exit code {out.returncode}"]
        return {"error": lines[-1], "seconds": round(time.perf_counter() - start, 1)}
    return {
        **json.loads(out.stdout.splitlines()[-1]),
        "seconds": round(time.perf_counter() - start, 1),
    }


def verdicts(part: str, found: dict[str, Any]) -> list[str]:
    """A line for each goal of a part."""
    if "error" in found:
        return [f"FAIL {part}: {found['error']}"]
    return [
        f"{'PASS' if goal['reached'] else 'FAIL'} {part}: {what}: {goal['value']} ({goal['goal']})"
        for what, goal in found["goals"].items()
    ]


def main() -> None:
    """Run the parts and print JSON."""
    parser = parser_of(__doc__, rounds=None)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(LIMITS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--short", action="store_true", help="little data: does it run at all?")
    parser.add_argument("--one", choices=LIMITS, help="this part alone, in this process")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(LIMITS):
        parser.error(f"there is no part {min(unknown)!r}; choose among {', '.join(LIMITS)}")
    if asked.one:
        print(json.dumps(one(asked.one, asked.device, short=asked.short)))
        return
    found, lines = {}, []
    for part in asked.parts or LIMITS:
        found[part] = apart(part, asked.device, short=asked.short)
        lines += verdicts(part, found[part])
        print("\n".join(verdicts(part, found[part])), file=sys.stderr, flush=True)
    finish({"device": asked.device, "short": asked.short, "verdicts": lines, **found}, asked.json)
    if any(line.startswith("FAIL") for line in lines):
        sys.exit(1)


if __name__ == "__main__":
    main()
