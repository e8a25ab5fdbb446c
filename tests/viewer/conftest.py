"""What the tests that drive a page share: one Chromium, and a results folder of one slide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from devtools import Browser, find_chromium
from score_map_fakes import fake_calibration, fake_score_map, fake_slide, with_normals

from wsi_anomaly.reports import write_results
from wsi_anomaly.slides import open_slide


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium for all tests of a process."""
    name = find_chromium()
    if name is None:
        pytest.skip("no Chromium here: install it to test the pages as their readers use them")
    with Browser(name, tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """The browser, of a desk's size and light, that remembers nothing of the test before."""
    chromium.open("about:blank", "location.href === 'about:blank'")
    chromium.look()
    chromium.requests.clear()
    chromium.problems.clear()
    return chromium


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of one slide with several flagged regions; to be looked at only."""
    return write_scored(tmp_path_factory.mktemp("scored"))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The same in a folder of the test's own, to be reviewed."""
    return write_scored(tmp_path)


def write_scored(folder: Path) -> Path:
    """Write the results of one slide and give their folder."""
    slide_file = fake_slide(folder / "slide.tif")
    score_map = fake_score_map(
        3, calibration=fake_calibration(), slide=slide_file, lesions=3, missing=0
    )
    assert len(score_map.interpretation.regions) >= 2
    with open_slide(slide_file) as slide:
        write_results(with_normals(score_map), slide, folder / "results" / "slide")
    return folder / "results"
