"""``--cache``: slides of a slow disk are read from copies, and nothing else changes by it."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from wsi_anomaly.cli.main import main
from wsi_anomaly.core import staging
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.staging import Cache, Copies, where_read
from wsi_anomaly.jobs import Progress, run_jobs
from wsi_anomaly.options import ScoreOptions
from wsi_anomaly.slides import open_slide
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import TileStore


@dataclass(frozen=True)
class FakeJob:
    slide: Path

    def from_anywhere(self) -> FakeJob:
        return FakeJob(self.slide.absolute())


@dataclass(frozen=True)
class Read:
    """Work that says where a slide was read, what was there, and how many copies lay beside it."""

    verb: ClassVar[str] = "read"

    def __call__(self, job: FakeJob, _report: Progress) -> tuple[Path, bytes, int]:
        file = where_read(job.slide)
        return file, file.read_bytes(), len(list(file.parent.iterdir()))

    def from_anywhere(self) -> Read:
        return self


@dataclass
class Disk:
    """Slides, a fast disk, and what the user is told."""

    folder: Path
    told: list[str] = field(default_factory=list)

    @property
    def cache(self) -> Cache:
        return Cache(self.folder / "fast", self.told.append)

    def slides(self, *names: str) -> list[FakeJob]:
        for name in names:
            (self.folder / name).write_bytes(name.encode() * 1000)
        return [FakeJob(self.folder / name) for name in names]

    def read(self, jobs: list[FakeJob], workers: int = 0) -> dict[str, tuple[Path, bytes, int]]:
        outcomes = list(run_jobs(Read(), jobs, workers=workers, cache=self.cache))
        found = {o.job.slide.name: o.result for o in outcomes if o.result is not None}
        assert all(data == name.encode() * 1000 for name, (_, data, _) in found.items())
        return found

    @property
    def left(self) -> list[Path]:
        return list((self.folder / "fast").iterdir())


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


@pytest.mark.parametrize("workers", [0, 2])
def test_slides_are_read_from_copies_a_few_at_a_time(disk: Disk, workers: int) -> None:
    names = [f"{i}.svs" for i in range(7)]
    found = disk.read(disk.slides(*names), workers)
    assert sorted(found) == names
    for file, _, beside in found.values():
        assert file.is_relative_to(disk.cache.folder)
        assert beside <= max(1, workers) + 1
    assert not disk.left
    assert not disk.told


def test_a_slide_of_several_files_is_read_where_it_lies(disk: Disk) -> None:
    jobs = disk.slides("a.mrxs", "b.dcm", "c.dzi", "d.vms", "e.zarr", "f.ndpi", "g")
    found = disk.read(jobs)
    there = {name for name, (file, _, _) in found.items() if file.parent == disk.folder}
    assert there == {"a.mrxs", "b.dcm", "c.dzi", "d.vms", "e.zarr", "g"}


def test_where_no_slide_can_be_copied_all_are_read_where_they_lie(disk: Disk) -> None:
    found = disk.read(disk.slides("a.mrxs", "b.dcm"))
    assert {file.parent for file, _, _ in found.values()} == {disk.folder}
    assert not disk.left


def test_what_does_not_fit_is_read_where_it_lies(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(disk.folder)._replace(free=staging._LEFT_FREE)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)
    found = disk.read(disk.slides("a.svs", "b.svs"))
    assert {file.parent for file, _, _ in found.values()} == {disk.folder}
    [sentence] = disk.told
    assert sentence.startswith(f"{disk.folder / 'a.svs'} was not copied to {disk.cache.folder} (No")
    assert "read where it lies" in sentence
    assert not disk.left


def test_a_copy_that_breaks_off_is_never_read(disk: Disk) -> None:
    """No file of this process may grow beyond 4,000 bytes, as on a disk that fills up."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    jobs = disk.slides("a.svs", "b.svs")
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, former[1]))
    try:
        found = disk.read(jobs)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert {file.parent for file, _, _ in found.values()} == {disk.folder}
    [sentence] = disk.told
    assert "(File too large) and is read where it lies, as is every other slide" in sentence
    assert not disk.left


def test_a_folder_that_cannot_be_written_is_said_once(disk: Disk) -> None:
    disk.cache.folder.write_text("a file")
    found = disk.read(disk.slides("a.svs", "b.svs"))
    assert {file.parent for file, _, _ in found.values()} == {disk.folder}
    [sentence] = disk.told
    assert "takes no copies of slides (File exists): they are read where they lie." in sentence


def test_a_slide_that_vanishes_harms_no_other(disk: Disk) -> None:
    jobs = disk.slides("a.svs", "b.svs", "c.svs")
    jobs[1].slide.unlink()
    outcomes = {o.job.slide.name: o for o in run_jobs(Read(), jobs, workers=0, cache=disk.cache)}
    assert outcomes["b.svs"].error.startswith(f"{jobs[1].slide} cannot be read any more (No such")
    for name in ("a.svs", "c.svs"):
        result = outcomes[name].result
        assert result is not None
        assert result[0].is_relative_to(disk.cache.folder)


def test_a_slide_that_is_still_written_is_not_copied(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    [job] = disk.slides("a.svs")
    real = shutil.disk_usage

    def meanwhile(folder: Path) -> object:
        os.utime(job.slide, ns=(0, 0))
        return real(folder)

    monkeypatch.setattr(shutil, "disk_usage", meanwhile)
    [(file, _, _)] = disk.read([job]).values()
    assert file == job.slide


def test_a_copy_that_hangs_is_not_waited_for_for_ever(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe that nobody writes into hangs as a network disk does."""
    monkeypatch.setattr(staging, "_TIMEOUT_S", 0.2)
    monkeypatch.setattr(staging, "_END_S", 0.1)
    os.mkfifo(disk.folder / "a.svs")
    with Copies(disk.cache, [disk.folder / "a.svs"], 1) as copies:
        copy = copies[0]
        assert copy is not None
        with copy.used():
            assert where_read(copy.slide) == copy.slide
    assert not disk.left


def test_whoever_stops_early_leaves_nothing(disk: Disk) -> None:
    jobs = disk.slides(*(f"{i}.svs" for i in range(5)))
    with closing(run_jobs(Read(), jobs, workers=0, cache=disk.cache)) as outcomes:
        next(outcomes)
        assert disk.left
    assert not disk.left


def test_what_a_killed_run_left_goes_with_the_next_and_is_never_read(disk: Disk) -> None:
    jobs = disk.slides("a.svs", "b.svs")
    program = (
        "import sys, time; from pathlib import Path; from wsi_anomaly.core.staging import *\n"
        "with Copies(Cache(Path(sys.argv[1]), print), [Path(sys.argv[2])], 1) as copies:\n"
        "    with copies[0].used():\n"
        "        copies[0].part.write_text('half of another')\n"
        "        print(where_read(Path(sys.argv[2])), flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(disk.cache.folder), str(jobs[0].slide)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        copy = Path(killed.stdout.readline().strip())
        assert [copy.parent] == disk.left
        killed.send_signal(signal.SIGKILL)
    assert copy.exists()
    for file, _, _ in disk.read(jobs).values():
        assert file.parent != copy.parent
    assert not disk.left


def test_pixels_come_from_the_copy_and_names_from_the_slide(disk: Disk) -> None:
    path = disk.folder / "a.tif"
    make_slide(path, seed=1, size_px=(512, 512), mpp=0.5)
    with open_slide(path) as slide:
        pixels = slide.read_level(0, 0, 0, 256, 256).rgb
    for backend in ("tiff", "openslide"):
        with Copies(disk.cache, [path], 1) as copies, contextlib.ExitStack() as stack:
            copy = copies[0]
            assert copy is not None
            stack.enter_context(copy.used())
            aside = path.rename(path.with_name("aside"))
            path.write_bytes(b"II*\0")  # whoever reads pixels from here fails
            with open_slide(path, backend=backend) as slide:
                assert slide.path == path
                np.testing.assert_array_equal(slide.read_level(0, 0, 0, 256, 256).rgb, pixels)
            aside.replace(path)


def test_results_are_those_without_copies(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(disk.folder)
    Path("slides").mkdir()
    for seed in (1, 2):
        make_slide(Path(f"slides/s{seed}.tif"), seed=seed, size_px=(2048, 2048), mpp=0.5)
    for cache, output in (([], "plain"), (["--cache", "fast"], "copied")):
        assert main(["tile", "slides", "-o", f"{output}_tiles", *cache]) == 0
        assert main(["score", "slides", "-o", output, "--workers", "1", *cache]) == 0
    assert "where it lies" not in capsys.readouterr().err
    assert not disk.left
    for name in ("s1", "s2"):
        plain, copied = (TileStore.open(f"{o}_tiles/{name}.h5") for o in ("plain", "copied"))
        np.testing.assert_array_equal(plain.mapped(10), copied.mapped(10))
        assert plain.fingerprint == copied.fingerprint
        assert copied.slide_path == disk.folder / "slides" / f"{name}.tif"
        texts = [Path(o, name, "summary.json").read_text() for o in ("plain", "copied")]
        assert texts[0].count("slides/s") == texts[1].count("slides/s") > 0
        assert "fast" not in texts[1]


def test_a_cluster_reads_no_disk_of_this_machine() -> None:
    with pytest.raises(UsageError, match="leave --cache or --dask out"):
        ScoreOptions(cache="fast", dask="tcp://127.0.0.1:8786")
