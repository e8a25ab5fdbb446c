"""Tile files, models and results that are damaged: refused in one sentence, or harmless."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from faults_running import LONGEST_S, count, only_in_full
from recording import Tally

PROGRAM = Path(__file__).with_name("damaged_reading.py")
PROMISE = {
    "tiles": "refused in one sentence, or harmless; pixels have no checksum, so a changed pixel "
    "is not noticed",
    "model": "refused in one sentence, or harmless",
    "results": "refused in one sentence, or harmless; scores have no checksum, so a changed "
    "number is not noticed",
}


def tries(kind: str, original: Path, folder: Path, number: int) -> list[tuple[str, str, str]]:
    """What was damaged, the outcome and the sentence of each try, crashes among them."""
    found: list[tuple[str, str, str]] = []
    while len(found) < number:
        ran = subprocess.run(
            [sys.executable, str(PROGRAM), kind, str(original), str(folder), str(len(found)),
             str(number)],
            capture_output=True, text=True, check=False, timeout=LONGEST_S * 3,
        )  # fmt: skip
        lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
        assert lines, ran.stderr
        begun = [line["what"] for line in lines if "try" in line]
        ended = [line for line in lines if "outcome" in line]
        found += [
            (what, line["outcome"], line["sentence"])
            for what, line in zip(begun, ended, strict=False)
        ]
        if len(begun) > len(ended):
            found.append((begun[-1], "crash", f"exit code {ran.returncode}: {ran.stderr[-200:]}"))
    return found


@pytest.mark.parametrize("kind", PROMISE)
def test_damaged_files(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if kind != "tiles":
        only_in_full()
    made = {"tiles": "tiles", "model": "model", "results": "results"}[kind]
    original = request.getfixturevalue(made)
    if kind == "tiles":
        original = tmp_path / "original"
        original.mkdir()
        shutil.copy(request.getfixturevalue("tiles") / "normal0.h5", original / "tiles.h5")
    elif kind == "results":
        original = original / "new0"
    tally = Tally(
        f"damaged_{kind}",
        f"a file of {'a tile folder' if kind == 'tiles' else f'a {kind} folder'} is cut off, "
        "overwritten or has a bit flipped at a random place",
        PROMISE[kind],
    )
    for what, outcome, sentence in tries(kind, original, tmp_path / "copy", count(150, 6)):
        with tally.attempt(what):
            tally.note(outcome)
            assert outcome not in ("crash", "traceback"), sentence
            assert outcome != "not noticed" or kind != "model", "the scores are others"
            if outcome == "refused":
                assert sentence.endswith("."), sentence
                assert "\n" not in sentence, sentence
    tally.finish()
