"""A read that never comes back costs its own region and some seconds, not the run."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import openslide
import pytest
from slide_files import stained, write

from wsi_anomaly.core.errors import NotASlideError, SlideError, UsageError
from wsi_anomaly.slides import ReadError, open_slide, read_squares
from wsi_anomaly.slides.sources import LocalSource
from wsi_anomaly.slides.timeout import VARIABLE, HangingError, within


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0.2")


def hang_in(monkeypatch: pytest.MonkeyPatch, hangs) -> threading.Event:
    """Reads of bytes hang where `hangs(offset)` says so, until the event is set."""
    real, event = LocalSource.read, threading.Event()

    def read(self: LocalSource, offset: int, size: int) -> bytes:
        if hangs(offset):
            event.wait()
        return real(self, offset, size)

    monkeypatch.setattr(LocalSource, "read", read)
    return event


@pytest.mark.usefixtures("impatient")
def test_one_tile_hangs_and_only_its_squares_are_missing(tmp_path: Path, monkeypatch) -> None:
    path = write(tmp_path / "s.tif", [stained(1024, 1024)])
    coords = np.array([(x, y) for y in range(0, 1024, 64) for x in range(0, 1024, 64)])
    with open_slide(path) as slide:
        offset = int(slide._levels[0].offsets[0, 1, 1])
        before = read_squares(slide, coords, 64, 1.0)
    event = hang_in(monkeypatch, lambda at: at == offset)
    started = time.monotonic()
    with open_slide(path) as slide:
        after = read_squares(slide, coords, 64, 1.0)
    event.set()
    lost = ((coords >= 256) & (coords < 512)).all(1)
    near = ((coords >= 192) & (coords < 576)).all(1)  # the filter reaches a little beyond
    assert (after.coverage[lost] == 0).all()
    np.testing.assert_array_equal(after.rgb[~near], before.rgb[~near])
    assert time.monotonic() - started < 60  # else every square had its own waiting


@pytest.mark.usefixtures("impatient")
def test_a_disk_that_hangs_altogether_gives_up_the_slide(tmp_path: Path, monkeypatch) -> None:
    path = write(tmp_path / "s.tif", [stained(1024, 1024)])
    event = hang_in(monkeypatch, lambda _offset: True)
    coords = np.array([(x, y) for y in range(0, 1024, 64) for x in range(0, 1024, 64)])
    with open_slide(path) as slide, pytest.raises(SlideError, match="does not answer") as caught:
        read_squares(slide, coords, 64, 1.0)
    event.set()
    assert not isinstance(caught.value, ReadError)
    assert str(path) in str(caught.value)


@pytest.mark.usefixtures("impatient")
def test_openslide_hangs_once_and_reads_on(tmp_path: Path, monkeypatch) -> None:
    path = write(tmp_path / "s.tif", [stained(512, 512)])
    real, event, calls = openslide.OpenSlide.read_region, threading.Event(), []

    def read_region(self, corner, level, size):
        calls.append(corner)
        if len(calls) == 1:
            event.wait()
        return real(self, corner, level, size)

    monkeypatch.setattr(openslide.OpenSlide, "read_region", read_region)
    with open_slide(path, backend="openslide") as slide:
        with pytest.raises(ReadError, match=r"no answer within 0.2 s"):
            slide.read_level(0, 0, 0, 64, 64)
        assert slide.read_level(0, 0, 0, 64, 64).rgb.shape == (64, 64, 3)
        event.set()


@pytest.mark.usefixtures("impatient")
def test_a_file_that_hangs_when_it_is_opened(tmp_path: Path, monkeypatch) -> None:
    path = write(tmp_path / "s.tif", [stained(512, 512)])
    event = threading.Event()
    monkeypatch.setattr(LocalSource, "open", lambda _self: event.wait())
    with pytest.raises(NotASlideError, match=r"s\.tif does not answer .*0\.2 s"):
        open_slide(path)
    event.set()


def test_slow_is_not_hanging() -> None:
    done: list[int] = []

    def slow() -> int:
        for i in range(4):
            time.sleep(0.3)
            done.append(i)
        return 7

    assert within(0.6, slow, lambda: len(done)) == 7
    with pytest.raises(HangingError):
        within(0.1, lambda: time.sleep(2))


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
