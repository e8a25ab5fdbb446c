"""``benchmarks/gpu.py`` runs here too, on little data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def run(*words: str) -> tuple[int, dict]:
    out = subprocess.run(
        [sys.executable, str(SCRIPT), "--device", "cpu", "--short", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return out.returncode, json.loads(out.stdout)


def test_what_needs_no_card_passes_on_the_processor() -> None:
    code, found = run("memory", "graph", "steps")
    assert code == 0, found["verdicts"]
    starts = [line.split(":")[0] for line in found["verdicts"]]
    assert starts == ["PASS memory", *["PASS graph"] * 2, *["PASS steps"] * 2]
    assert len(found["steps"]["stages"]) == 5 + 1  # five of the published growth, and crops


def test_a_part_that_hangs_or_fails_costs_itself_alone(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu

    monkeypatch.setattr(gpu, "LIMITS", gpu.LIMITS | {"nccl": 0.01})
    slow = gpu.apart("nccl", "cpu", short=False)
    assert gpu.verdicts("nccl", slow) == ["FAIL nccl: longer than 0.01 s"]
    broken = gpu.apart("encoder", "meta", short=True)
    assert gpu.verdicts("encoder", broken)[0].startswith("FAIL encoder: ")
