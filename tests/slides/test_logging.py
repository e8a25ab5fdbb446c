"""Reading slides is quiet, and leaves the logger of the program around it alone."""

from __future__ import annotations

import contextlib
import io
import logging
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tifffile
from slide_files import tissue_slide

from wsi_anomaly.core.errors import WsiAnomalyError
from wsi_anomaly.slides import open_slide
from wsi_anomaly.slides.tiff_structure import read_structure

LOGGER = logging.getLogger("tifffile")


class Watched(io.BytesIO):
    """A slide whose reading starts and ends when the test says so."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.started, self.may_end = threading.Event(), threading.Event()

    def read(self, size: int | None = -1) -> bytes:
        self.started.set()
        assert self.may_end.wait(60)
        LOGGER.warning("what tifffile says of the file")
        return super().read(size)


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    return tissue_slide(tmp_path / "slide.tif").read_bytes()


def test_threads_that_open_slides_leave_the_logger_as_it_was(
    content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Watched(content), Watched(content)
    with ThreadPoolExecutor(2) as threads:
        # The second starts before the first ends, and ends after it.
        one = threads.submit(read_structure, first)
        assert first.started.wait(60)
        other = threads.submit(read_structure, second)
        assert second.started.wait(60)
        LOGGER.warning("the program's own, meanwhile")
        first.may_end.set()
        one.result(60)
        second.may_end.set()
        other.result(60)
    LOGGER.warning("the program's own, afterwards")
    assert not LOGGER.disabled
    assert LOGGER.isEnabledFor(logging.WARNING)
    assert caplog.messages == ["the program's own, meanwhile", "the program's own, afterwards"]


def test_a_damaged_slide_is_said_once_in_our_words(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "damaged.tif"
    directory = struct.unpack("<I", content[4:8])[0]
    entries = struct.unpack("<H", content[directory : directory + 2])[0]
    after = directory + 2 + 12 * entries
    path.write_bytes(content[:after] + struct.pack("<I", 0xFFFFFF00) + content[after + 4 :])
    with tifffile.TiffFile(path) as tif:
        assert len(tif.pages) == 1
    assert caplog.messages  # tifffile logs it when the program itself opens the file
    caplog.clear()
    with contextlib.suppress(WsiAnomalyError), open_slide(path):
        pass
    assert caplog.messages == []
