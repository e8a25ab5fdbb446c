"""A ``scores.zarr`` of a stranger: refused in one sentence, with little memory, by every reader."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import shutil
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr
from score_map_fakes import fake_calibration, fake_score_map, fake_slide

from wsi_anomaly.cli.main import main
from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.evaluation import ScoredSlide
from wsi_anomaly.reports import write_results
from wsi_anomaly.results.stored_scores import StoredScores
from wsi_anomaly.slides import open_slide
from wsi_anomaly.viewer.server import Results, Viewer

COLUMNS = ("coords", "row", "col", "tissue_fraction", "status", "flagged")
LITTLE_BYTES = 50_000_000


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One result that is as it should be."""
    work = tmp_path_factory.mktemp("stored")
    slide_file = fake_slide(work / "scan.tif")
    with open_slide(slide_file) as slide:
        made = fake_score_map(3, calibration=fake_calibration(), slide=slide_file)
        write_results(made, slide, work / "results" / "scan", heatmap=False)
    return work / "results"


@pytest.fixture
def results(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "results"))


def change(tiles: Path, name: str, **entries: object) -> None:
    path = tiles / name / ".zarray"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def state(tiles: Path, **facts: object) -> None:
    path = tiles / ".zattrs"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def claim_sixty_gigabytes(tiles: Path) -> None:
    group = zarr.open_group(str(tiles), mode="r+", zarr_format=2)
    for name in ("scores/dpa", "scores/density", *COLUMNS):
        shape = (1 << 33, 2) if name == "coords" else (1 << 33,)
        group.create_array(name, shape=shape, dtype="i8", chunks=(1024,) * len(shape),
                           overwrite=True)  # fmt: skip


def claim_a_large_grid_of_fields(tiles: Path) -> None:
    claim_sixty_gigabytes(tiles)
    state(tiles, grid_shape=[1 << 17, 1 << 17])


def claim_many_methods(tiles: Path) -> None:
    """Each a possible size, together not: nothing of them is stored."""
    for name in COLUMNS:
        change(tiles, name, shape=[1 << 22, 2] if name == "coords" else [1 << 22])
    for number in range(200):
        shutil.copytree(tiles / "scores" / "dpa", tiles / "scores" / f"m{number}")
    for path in (tiles / "scores").iterdir():
        if path.is_dir():
            change(path, "", shape=[1 << 22])
    state(tiles, grid_shape=[1 << 11, 1 << 11])


def claim_a_large_piece(tiles: Path) -> None:
    change(tiles, "row", chunks=[1 << 36])


def bomb(tiles: Path) -> None:
    """8 kB that unpack to 256 MB."""
    packed = numcodecs.Zstd(level=19).encode(np.zeros(1 << 28, np.uint8))
    assert len(packed) < 10_000
    change(tiles, "row", compressor={"id": "zstd", "level": 0, "checksum": False})
    (tiles / "row" / "0").write_bytes(packed)


def bomb_of_blosc(tiles: Path) -> None:
    packed = numcodecs.Blosc(cname="zstd", clevel=9).encode(np.zeros(1 << 28, np.uint8))
    assert len(packed) < 100_000
    (tiles / "row" / "0").write_bytes(packed)


def pack_otherwise(tiles: Path) -> None:
    """What says nothing of its size is not taken."""
    change(tiles, "row", compressor={"id": "zlib", "level": 9})
    packed = numcodecs.Zlib(level=9).encode(np.zeros(1 << 28, np.uint8))
    (tiles / "row" / "0").write_bytes(packed)


def put_before_it_a_filter(tiles: Path) -> None:
    change(tiles, "row", filters=[{"id": "zlib", "level": 9}])


def unpickle(tiles: Path) -> None:
    change(tiles, "row", compressor=None, filters=[{"id": "pickle"}], dtype="|O")


def never_end(tiles: Path) -> None:
    (tiles / "row" / "0").unlink()
    (tiles / "row" / "0").symlink_to("/dev/zero")


def wait_for_ever(tiles: Path) -> None:
    (tiles / ".zattrs").unlink()
    os.mkfifo(tiles / ".zattrs")


def lead_elsewhere(tiles: Path) -> None:
    (tiles / "row").rename(tiles.parents[2] / "row")
    (tiles / "row").symlink_to(tiles.parents[2] / "row")


def overlap_without_end(tiles: Path) -> None:
    state(tiles, field_level0=[1e12, 1e12], stride_level0=[1, 1])


def claim_no_size(tiles: Path) -> None:
    (tiles / ".zattrs").write_text((tiles / ".zattrs").read_text().replace("256", "NaN"))
    state(tiles, field_level0=[float("nan"), 1])


CRAFTED = [
    claim_sixty_gigabytes, claim_a_large_grid_of_fields, claim_many_methods, claim_a_large_piece,
    bomb, bomb_of_blosc, pack_otherwise, put_before_it_a_filter, unpickle, never_end,
    wait_for_ever, lead_elsewhere, overlap_without_end, claim_no_size,
]  # fmt: skip


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < LITTLE_BYTES
    finally:
        tracemalloc.stop()


def evaluated(results: Path) -> str:
    """What ``evaluate`` says."""
    labels = results.parent / "labels.csv"
    labels.write_text("slide,label\nscan,normal\n")
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(["evaluate", str(results), "--labels", str(labels)])
    assert code == 1
    return said.getvalue()


def viewed(results: Path) -> str:
    """What the viewer answers."""
    server = Viewer(Results(results))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
        connection.request("GET", f"/{server.token}/data/scan")
        answer = connection.getresponse()
        assert answer.status != 200
        return answer.read().decode()
    finally:
        server.shutdown()
        server.server_close()


def read_by_a_program(results: Path) -> str:
    with pytest.raises(OutputError) as caught:
        ScoredSlide.read(results / "scan")
    return str(caught.value)


def test_what_is_as_it_should_be_is_read(results: Path) -> None:
    stored, table = StoredScores.read(results / "scan"), ScoredSlide.read(results / "scan")
    made = fake_score_map(3, calibration=fake_calibration())
    np.testing.assert_array_equal(stored.score, made.score)
    np.testing.assert_array_equal(table.coords, made.fields.coords)
    assert stored.flagged.tolist() == made.interpretation.flagged.tolist()
    assert stored.fields.grid_shape == made.fields.grid_shape


def test_packed_by_another_version_of_zarr_it_is_read_too(results: Path) -> None:
    """Zarr 3.0 packs with Zstandard where later versions take Blosc."""
    before = StoredScores.read(results / "scan")
    path = results / "scan" / "scores.zarr" / "tiles"
    group = zarr.open_group(str(path), mode="r+", zarr_format=2)
    for name, packed_by in {
        "row": numcodecs.Zstd(),
        "col": None,
        "flagged": numcodecs.Zstd(),
    }.items():
        values = group[name][...]
        group.create_array(name, data=values, chunks=values.shape, overwrite=True,
                           compressors=packed_by and [packed_by])  # fmt: skip
    after = StoredScores.read(results / "scan")
    np.testing.assert_array_equal(after.grid(), before.grid())
    np.testing.assert_array_equal(after.flagged, before.flagged)


@pytest.mark.parametrize("read", [evaluated, viewed, read_by_a_program])
@pytest.mark.parametrize("craft", CRAFTED)
def test_a_crafted_one_is_refused(
    results: Path, craft: Callable[[Path], None], read: Callable[[Path], str]
) -> None:
    craft(results / "scan" / "scores.zarr" / "tiles")
    with little_memory():
        said = read(results).strip()
    assert "scores.zarr is missing or damaged (" in said
    assert said.endswith("; score the slide again.")
    assert "\n" not in said
