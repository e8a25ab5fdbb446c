"""A small set and a few cells of it, computed once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_sets import PLAN, ROWS, make_folder_set

from wsi_anomaly.features import broad
from wsi_anomaly.reproduce.run import Outcome, reproduce
from wsi_anomaly.reproduce.sources.folders import Folder


@contextmanager
def two_broad_images() -> Iterator[None]:
    """Scale random networks by two images rather than all: what is tested does not depend on it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(broad, "IMAGES", dict(list(broad.IMAGES.items())[:2]))
        yield


@pytest.fixture(autouse=True)
def few_broad_images() -> Iterator[None]:
    """For each test by itself: a process runs tests of other rooms between them."""
    with two_broad_images():
        yield


@pytest.fixture(scope="session")
def folder_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder_set(tmp_path_factory.mktemp("set"), normal=60, abnormal=40)


@pytest.fixture(scope="session")
def finished(
    folder_set: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Folder, Path, Outcome]:
    """Source, output folder and outcome of a run of two seeds."""
    source, output = Folder(folder_set), tmp_path_factory.mktemp("output")
    with two_broad_images():
        outcome = reproduce(
            source, PLAN, ROWS, output, seeds=2, command="wsi-anomaly reproduce ..."
        )
    return source, output, outcome
