"""Slides that are cut off or damaged: refused, or judged but for what is lost; the rest is done."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from damage import DAMAGE
from faults_running import count, leftovers, only_in_full
from faults_world import command_in_process
from recording import Tally

from wsi_anomaly.tiles import Status, TileStore

WHOLE = "whole"


def damaged_slides(source: Path, folder: Path, kind: str, number: int) -> list[Path]:
    """Damaged copies of a slide, and the slide itself as ``whole``."""
    folder.mkdir()
    data = source.read_bytes()
    (folder / f"{WHOLE}{source.suffix}").write_bytes(data)
    paths = []
    for i in range(number):
        path = folder / f"damaged{i:02}{source.suffix}"
        path.write_bytes(DAMAGE[kind](data, np.random.default_rng((sum(kind.encode()), i))))
        paths.append(path)
    return paths


def sentence_about(path: Path, printed: str) -> str:
    """The one error that names a file; "" for none."""
    found = [
        line for line in printed.splitlines() if line.startswith("Error:") and path.name in line
    ]
    assert len(found) <= 1, found
    assert all(line.endswith(".") for line in found), found
    return found[0] if found else ""


def is_orderly(code: int, printed: str, out: Path, refused: int) -> None:
    """The whole slide is done, nothing is half-written, the exit code says what happened."""
    assert "Traceback" not in printed, printed
    assert "unexpected" not in printed, printed
    assert code == (1 if refused else 0), printed
    assert leftovers(out) == []


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("backend", ["auto", "openslide"])
def test_tile_damaged_slides(kind: str, backend: str, world: Path, tmp_path: Path) -> None:
    if backend != "auto":
        only_in_full()
    number = count(50, 2)
    slides = damaged_slides(world / "new" / "new0.tif", tmp_path / "slides", kind, number)
    tally = Tally(
        f"tile_{kind.replace(' ', '_')}_{backend}",
        f"`tile`: slide {kind} at a random place (reader: {backend})",
        "refused in one sentence, or its damaged fields `failed`; the other slides done",
    )
    code, printed = command_in_process(
        tmp_path, "tile", "slides", "--magnifications", "10", "--stain", "none",
        "--workers", "1", "--backend", backend,
    )  # fmt: skip
    out = tmp_path / "tiles"
    whole = TileStore.open(out / f"{WHOLE}.h5")
    pixels = {tuple(c): whole.images(10, [i])[0] for i, c in enumerate(whole.coords.tolist())}
    with open(out / "slides.csv", newline="") as file:
        rows = {Path(row["slide"]).name: row for row in csv.DictReader(file)}
    refused = 0
    for path in slides:
        with tally.attempt(path.name):
            said = sentence_about(path, printed)
            if said:
                refused += 1
                tally.note("refused")
                assert rows[path.name]["status"] == "error"
                assert not (out / f"{path.stem}.h5").exists()
                continue
            store = TileStore.open(out / f"{path.stem}.h5")
            assert rows[path.name]["status"] == "done"
            failed = store.status == Status.FAILED
            assert rows[path.name]["failed"] == str(failed.sum())
            good = np.flatnonzero(store.status == Status.OK)
            images = dict(zip(map(tuple, store.coords[good].tolist()), store.images(10, good),
                              strict=True))  # fmt: skip
            changed = [c for c, image in images.items()
                       if c in pixels and not np.array_equal(image, pixels[c])]  # fmt: skip
            tally.note(
                "some fields failed" if failed.any()
                else "decoded to other pixels" if changed
                else "no difference"
            )  # fmt: skip
    with tally.check("the run as a whole"):
        is_orderly(code, printed, out, refused)
        assert rows[f"{WHOLE}.tif"]["status"] == "done"
    tally.finish()


@pytest.mark.parametrize("kind", DAMAGE)
def test_score_damaged_slides(kind: str, world: Path, model: Path, tmp_path: Path) -> None:
    number = count(50, 2)
    slides = damaged_slides(world / "new" / "new0.tif", tmp_path / "slides", kind, number)
    tally = Tally(
        f"score_{kind.replace(' ', '_')}",
        f"`score`: slide {kind} at a random place",
        "refused in one sentence, or its damaged fields `Not assessed`; the other slides done",
    )
    code, printed = command_in_process(
        tmp_path, "score", "slides", "--model", str(model), "--heatmap", "--workers", "1"
    )
    out, refused = tmp_path / "results", 0
    whole = json.loads((out / WHOLE / "summary.json").read_text())
    for path in slides:
        with tally.attempt(path.name):
            said = sentence_about(path, printed)
            if said:
                refused += 1
                tally.note("refused")
                assert "the compressed tile" not in said, said  # it costs its own fields only
                assert not (out / path.stem).exists()
                continue
            summary = json.loads((out / path.stem / "summary.json").read_text())
            lost = summary["not_assessed_mm2"] - whole["not_assessed_mm2"]
            tally.note("some fields not assessed" if lost > 0 else "all fields assessed")
    with tally.check("the run as a whole"):
        is_orderly(code, printed, out, refused)
        assert (out / "index.html").is_file()
    tally.finish()


def test_the_damage_is_real(world: Path) -> None:
    data = (world / "new" / "new0.tif").read_bytes()
    for damage in DAMAGE.values():
        random = np.random.default_rng(0)
        assert all(damage(data, random) != data for _ in range(20))
