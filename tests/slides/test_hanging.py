"""A read that never comes back costs its own region and some seconds, not the run."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openslide
import pytest
from slide_files import stained, write

from wsi_anomaly.core.errors import NotASlideError, SlideError, UsageError
from wsi_anomaly.slides import ReadError, base, open_slide, opening, read_squares
from wsi_anomaly.slides.sources import LocalSource
from wsi_anomaly.slides.timeout import VARIABLE, HangingError, within


class Hanging:
    """What never comes back before the end of a test; everything else makes progress."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.over = threading.Event()

    def __call__(self, *_: object) -> None:
        self.threads.append(threading.get_ident())
        self.over.wait()

    def within(self, seconds: float, work, place=lambda: None):
        """Wait as the program does, on a machine that is never so busy that a good read is slow."""
        thread: list[int] = []
        moments = itertools.count()

        def noted():
            thread.append(threading.get_ident())
            return work()

        def progress() -> object:
            hangs = bool(thread) and thread[0] in self.threads
            return place() if hangs else next(moments)

        return within(seconds, noted, progress)


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    monkeypatch.setenv(VARIABLE, "0.2")
    hanging = Hanging()
    for module in (base, opening):
        monkeypatch.setattr(module, "within", hanging.within)
    yield hanging
    hanging.over.set()


def reads_hang(monkeypatch: pytest.MonkeyPatch, hang: Hanging, where) -> None:
    """Reads of bytes hang where `where(offset)` says so."""
    real = LocalSource.read

    def read(self: LocalSource, offset: int, size: int) -> bytes:
        if where(offset):
            hang()
        return real(self, offset, size)

    monkeypatch.setattr(LocalSource, "read", read)


def test_one_tile_hangs_and_only_its_squares_are_missing(
    tmp_path: Path, monkeypatch, hang: Hanging
) -> None:
    path = write(tmp_path / "s.tif", [stained(1024, 1024)])
    coords = np.array([(x, y) for y in range(0, 1024, 64) for x in range(0, 1024, 64)])
    with open_slide(path) as slide:
        offset = int(slide._levels[0].offsets[0, 1, 1])
        before = read_squares(slide, coords, 64, 1.0)
    reads_hang(monkeypatch, hang, lambda at: at == offset)
    with open_slide(path) as slide:
        after = read_squares(slide, coords, 64, 1.0)
    lost = ((coords >= 256) & (coords < 512)).all(1)
    near = ((coords >= 192) & (coords < 576)).all(1)  # the filter reaches a little beyond
    assert (after.coverage[lost] == 0).all()
    np.testing.assert_array_equal(after.rgb[~near], before.rgb[~near])
    assert len(hang.threads) == 1  # no square had its own waiting


def test_a_disk_that_hangs_altogether_gives_up_the_slide(
    tmp_path: Path, monkeypatch, hang: Hanging
) -> None:
    path = write(tmp_path / "s.tif", [stained(1024, 1024)])
    reads_hang(monkeypatch, hang, lambda _offset: True)
    coords = np.array([(x, y) for y in range(0, 1024, 64) for x in range(0, 1024, 64)])
    with open_slide(path) as slide, pytest.raises(SlideError, match="does not answer") as caught:
        read_squares(slide, coords, 64, 1.0)
    assert not isinstance(caught.value, ReadError)
    assert str(path) in str(caught.value)


def test_openslide_hangs_once_and_reads_on(tmp_path: Path, monkeypatch, hang: Hanging) -> None:
    path = write(tmp_path / "s.tif", [stained(512, 512)])
    real, calls = openslide.OpenSlide.read_region, []

    def read_region(self, corner, level, size):
        calls.append(corner)
        if len(calls) == 1:
            hang()
        return real(self, corner, level, size)

    monkeypatch.setattr(openslide.OpenSlide, "read_region", read_region)
    with open_slide(path, backend="openslide") as slide:
        with pytest.raises(ReadError, match=r"no answer within 0.2 s"):
            slide.read_level(0, 0, 0, 64, 64)
        assert slide.read_level(0, 0, 0, 64, 64).rgb.shape == (64, 64, 3)
        hang.over.set()


def test_a_file_that_hangs_when_it_is_opened(tmp_path: Path, monkeypatch, hang: Hanging) -> None:
    path = write(tmp_path / "s.tif", [stained(512, 512)])
    monkeypatch.setattr(LocalSource, "open", hang)
    with pytest.raises(NotASlideError, match=r"s\.tif does not answer .*0\.2 s"):
        open_slide(path)


def test_slow_is_not_hanging() -> None:
    asked, slow = itertools.count(), threading.Event()

    def place() -> int:
        times = next(asked)
        if times == 4:
            slow.set()
        return times

    assert within(0.05, slow.wait, place)
    stuck = threading.Event()
    with pytest.raises(HangingError):
        within(0.1, stuck.wait)
    stuck.set()


def test_errors_and_results_come_through() -> None:
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)
    assert within(5, lambda: "x") == "x"
    assert within(0, threading.current_thread) is threading.current_thread()
    first = within(5, threading.current_thread)
    assert first is within(5, threading.current_thread) is not threading.current_thread()


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf"])
def test_an_impossible_patience_is_wrong_usage(tmp_path: Path, monkeypatch, text: str) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(UsageError, match=VARIABLE):
        open_slide(write(tmp_path / "s.tif", [stained(100, 100)]))
