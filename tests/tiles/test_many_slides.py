"""Many slides: one bad one stops nothing, the table says what became of each, a rerun resumes."""

from __future__ import annotations

import csv
import os
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest
from tile_fakes import on_glass, write_slide

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.jobs import Outcome, attempt
from wsi_anomaly.tiles import TileConfig, TileStore, tile_slide
from wsi_anomaly.tiles.inputs import check_files, find_file
from wsi_anomaly.tiles.jobs import Job, plan_jobs
from wsi_anomaly.tiles.slides_table import SlidesTable, write_slides_table
from wsi_anomaly.tiles.tiling import TileOutcome, Tiling, tile_slides

CONFIG = TileConfig(max_tiles=5, magnifications=(10,))


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for k in range(2):
        write_slide(folder / f"s{k}.tif", on_glass(seed=k))
    (folder / "bad.tif").write_bytes(b"no slide")
    return folder


def outcomes_of(outcomes: Iterable[TileOutcome]) -> dict[str, TileOutcome]:
    return {outcome.job.slide.name: outcome for outcome in outcomes}


def rows(path: Path) -> dict[str, dict[str, str]]:
    with open(path, newline="") as file:
        return {Path(row["slide"]).name: row for row in csv.DictReader(file)}


def test_two_workers_give_the_same_files_as_none(slides: Path, tmp_path: Path) -> None:
    files = sorted(slides.glob("*.tif"))
    jobs = plan_jobs(files, tmp_path)
    outcomes = outcomes_of(tile_slides(jobs, tmp_path, CONFIG, workers=2))
    assert outcomes["bad.tif"].result is None
    assert "bad.tif" in outcomes["bad.tif"].error
    for name in ("s0", "s1"):
        here = tile_slide(slides / f"{name}.tif", tmp_path / "alone", CONFIG)
        assert outcomes[f"{name}.tif"].result.counts == here.counts
        there = tmp_path / f"{name}.h5"
        assert (TileStore.open(there).images(10, slice(None))
                == TileStore.open(here.path).images(10, slice(None))).all()  # fmt: skip


def test_a_slide_that_ends_its_process_is_named_and_the_others_are_done(
    slides: Path, tmp_path: Path
) -> None:
    jobs = [Job(KillerPath(slides / "s1.tif"), "killer"), Job(slides / "s0.tif", "s0")]
    outcomes = {o.job.name: o for o in tile_slides(jobs, tmp_path, CONFIG, workers=1)}
    assert set(outcomes) == {"s0", "killer"}
    assert "ended its process" in outcomes["killer"].error
    assert outcomes["s0"].result is not None


class KillerPath(type(Path())):
    """A slide whose decoder brings the process down."""

    def __reduce__(self):
        return _end_process, (os.getpid(),)


def _end_process(parent: int) -> Path:
    if os.getpid() != parent:
        os._exit(9)
    return Path("never")


def test_a_dask_cluster_gives_the_same(slides: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
    jobs = plan_jobs(sorted(slides.glob("*.tif")), tmp_path)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address
        outcomes = outcomes_of(tile_slides(jobs, tmp_path, CONFIG, dask=address))
        again = outcomes_of(tile_slides(jobs, tmp_path, CONFIG, dask=address))
    assert outcomes["s0.tif"].result.counts["ok"] == 5
    assert outcomes["bad.tif"].result is None
    assert outcomes["s0.tif"].job == jobs[1]
    assert again["s0.tif"].result.skipped


def test_the_table_says_what_became_of_every_slide(slides: Path, tmp_path: Path) -> None:
    jobs = plan_jobs(sorted(slides.glob("*.tif")), tmp_path, cases={slides / "s0.tif": "animal 7"})
    table = SlidesTable(tmp_path / "slides.csv")
    for job in jobs:
        table.add(attempt(Tiling(tmp_path, CONFIG), job))
    table.write()
    table = rows(tmp_path / "slides.csv")
    assert set(table) == {"s0.tif", "s1.tif", "bad.tif"}
    assert table["bad.tif"]["status"] == "error"
    assert "bad.tif" in table["bad.tif"]["reason"]
    first = table["s0.tif"]
    assert (first["status"], first["case"], first["tile_file"]) == ("done", "animal 7", "s0.h5")
    assert (first["magnifications"], first["tiles"], first["ok"]) == ("10x", "5", "5")
    assert float(first["seconds"]) > 0

    write_slides_table(tmp_path / "slides.csv", [attempt(Tiling(tmp_path, CONFIG), jobs[1])])
    table = rows(tmp_path / "slides.csv")
    assert table["s0.tif"]["status"] == "kept"
    assert table["bad.tif"]["status"] == "error"  # of the former run


def test_runs_that_share_a_table_lose_nothing(tmp_path: Path) -> None:
    def note(part: int) -> None:
        for k in range(10):
            name = f"{part}-{k}"
            write_slides_table(
                tmp_path / "slides.csv", [Outcome(Job(Path(name), name), None, "not there")]
            )

    threads = [threading.Thread(target=note, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows(tmp_path / "slides.csv")) == 40


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"config": TileConfig(max_tiles=6, magnifications=(10,))},
            "the configuration has changed",
        ),
        ({"mpp": 0.45}, "the pixel size has changed"),
        ({"case": "animal 7"}, "its case has changed"),
        ({"other": True}, "the slide has changed"),
        ({"damage": True}, "was damaged"),
    ],
)
def test_what_is_redone_says_why(slides: Path, tmp_path: Path, change: dict, reason: str) -> None:
    slide = tmp_path / "s.tif"
    shutil.copy(slides / "s0.tif", slide)
    first = tile_slide(slide, tmp_path, CONFIG)
    assert not first.skipped
    assert tile_slide(slide, tmp_path, CONFIG).skipped
    if change.pop("other", False):
        shutil.copy(slides / "s1.tif", slide)
    if change.pop("damage", False):
        first.path.write_bytes(first.path.read_bytes()[:1000])
    config = change.pop("config", CONFIG)
    job = Job(slide, **change)
    again = tile_slide(job, tmp_path, config)
    assert not again.skipped
    assert reason in again.notes[0]
    assert tile_slide(job, tmp_path, config).skipped
    assert not tile_slide(job, tmp_path, config, resume=False).skipped


def test_two_slides_of_one_name_get_files_of_their_own(slides: Path, tmp_path: Path) -> None:
    for k, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        shutil.copy(slides / f"s{k}.tif", tmp_path / folder / "scan.tif")
    files = sorted(tmp_path.glob("*/scan.tif"))
    out = tmp_path / "tiles"
    jobs = plan_jobs(files, out)
    assert len({job.name for job in jobs}) == 2
    assert all(job.name.startswith("scan-") for job in jobs)
    for job in jobs:
        attempt(Tiling(out, CONFIG), job)
    assert plan_jobs(files, out) == jobs  # the same names when run again
    for file, job in zip(files, jobs, strict=True):  # and when run one by one
        assert plan_jobs([file], out) == [job]
        assert attempt(Tiling(out, CONFIG), job).result.skipped
    write_slide(files[0], on_glass(seed=2))  # it has changed, and is no third slide
    assert plan_jobs(files, out) == jobs


def test_a_slide_never_takes_the_name_of_another_slides_tiles(slides: Path, tmp_path: Path) -> None:
    for k, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        shutil.copy(slides / f"s{k}.tif", tmp_path / folder / "scan.tif")
    out = tmp_path / "tiles"
    first = plan_jobs([tmp_path / "a" / "scan.tif"], out)
    assert first[0].name == "scan"
    attempt(Tiling(out, CONFIG), first[0])
    assert plan_jobs([tmp_path / "a" / "scan.tif"], out) == first
    assert plan_jobs([tmp_path / "b" / "scan.tif"], out)[0].name.startswith("scan-")


def test_one_file_for_several_slides_is_wrong_usage(slides: Path, tmp_path: Path) -> None:
    (tmp_path / "m.png").touch()
    files = sorted(slides.glob("s*.tif"))
    for option in ("tissue_mask", "annotations"):
        with pytest.raises(UsageError, match="a folder of files named as the slides"):
            plan_jobs(files, tmp_path, **{option: tmp_path / "m.png"})
        with pytest.raises(UsageError, match="does not exist"):
            plan_jobs(files[:1], tmp_path, **{option: tmp_path / "none.png"})


def test_a_slide_is_never_its_own_mask(tmp_path: Path) -> None:
    folder = tmp_path / "slides"
    (folder / "a").mkdir(parents=True)
    slide, other = folder / "a" / "s.tif", folder / "s2.tif"
    for file in (slide, other):
        file.write_bytes(file.name.encode())
    assert find_file(folder, slide) is None
    assert find_file(folder, other) is None
    (folder / "s.png").touch()
    assert find_file(folder, slide) == folder / "s.png"
    (folder / "s2.tif.geojson").touch()
    assert find_file(folder, other) == folder / "s2.tif.geojson"
    with pytest.raises(UsageError, match=r"s2\.tif is a slide itself; give --tissue-mask another"):
        check_files("--tissue-mask", other, [other])


def test_a_slides_own_mpp_wins_over_that_of_all(slides: Path, tmp_path: Path) -> None:
    files = sorted(slides.glob("s*.tif"))
    jobs = plan_jobs(files, tmp_path, mpp=0.5, mpp_of={slides / "s1.tif": 0.25})
    assert [job.mpp for job in jobs] == [0.5, 0.25]
