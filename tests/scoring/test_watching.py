"""Slides that arrive in a folder, piece by piece, broken, or only for a while."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from scoring_fakes import make_slide
from small_model import save_small_model

from wsi_anomaly.options import ScoreOptions
from wsi_anomaly.screening import ScoreOutcome, ScoreRun, score_arrivals
from wsi_anomaly.screening.watching import mark_of

SETTLE_S = 0.05


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and slides that have not arrived yet."""
    folder = tmp_path_factory.mktemp("watching")
    save_small_model(folder / "model", folder)
    for seed, name in enumerate(("one", "two")):
        make_slide(folder / f"{name}.tif", seed=seed)
    return folder


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    (tmp_path / "incoming").mkdir()
    return tmp_path / "incoming"


class Night:
    """Events between two looks; the watch ends after the last of them."""

    def __init__(self, incoming: Path, drawn: Path, *events: Callable[[], object]) -> None:
        options = ScoreOptions(workers=1, device="cpu")
        self._run = ScoreRun.ready(drawn / "model", incoming.parent / "results", options, 1)
        self._incoming, self._events = incoming, iter(events)
        self.said: list[str] = []
        self.outcomes: list[ScoreOutcome] = []

    def pass_by(self) -> list[str]:
        """Names of the slides that were given, each with whether it was scored."""
        watch = score_arrivals(
            self._run, [self._incoming], settle_s=SETTLE_S, note=self.said.append, sleep=self._sleep
        )
        with closing(watch) as outcomes:
            try:
                for outcome in outcomes:
                    self.outcomes.append(outcome)
            except NightIsOverError:
                pass
        return [f"{o.job.slide.name} {'failed' if o.error else 'done'}" for o in self.outcomes]

    def _sleep(self, _seconds: float) -> None:
        event = next(self._events, None)
        if event is None:
            raise NightIsOverError
        event()
        time.sleep(2 * SETTLE_S)


class NightIsOverError(Exception):
    pass


def nothing() -> None:
    pass


def pieces(source: Path, target: Path, count: int) -> Iterator[Callable[[], None]]:
    """Copy a file a piece at a time, as a slow scanner or network does."""
    data = source.read_bytes()
    size = -(-len(data) // count)

    def add(k: int) -> None:
        with open(target, "ab") as file:
            file.write(data[k * size : (k + 1) * size])

    return (lambda k=k: add(k) for k in range(count))  # type: ignore[misc]


def test_a_slide_is_scored_once_when_its_last_piece_has_come(incoming, drawn):
    events = pieces(drawn / "one.tif", incoming / "one.tif", 6)
    night = Night(incoming, drawn, nothing, *events, nothing, nothing, nothing)
    assert night.pass_by() == ["one.tif done"]
    table = (incoming.parent / "results" / "slides.csv").read_text()
    assert "one.tif" in table
    again = Night(incoming, drawn, nothing, nothing)
    again.pass_by()
    assert [outcome.result.kept for outcome in again.outcomes] == [True]


def test_what_cannot_be_read_is_tried_again_when_it_changes_and_only_then(incoming, drawn):
    broken = incoming / "one.tif"
    night = Night(
        incoming, drawn,
        lambda: broken.write_bytes((drawn / "one.tif").read_bytes()[:1000]),
        nothing, nothing, nothing,
        lambda: shutil.copy(drawn / "one.tif", broken),
        nothing, nothing,
    )  # fmt: skip
    assert night.pass_by() == ["one.tif failed", "one.tif done"]
    assert "one.tif" in night.outcomes[0].error
    assert not list((incoming.parent / "results" / ".failed").glob("*"))


def test_a_slide_that_goes_is_a_sentence_and_is_scored_when_it_is_back(incoming, drawn):
    slide = incoming / "one.tif"
    night = Night(
        incoming, drawn,
        lambda: (shutil.copy(drawn / "one.tif", slide), shutil.copy(drawn / "two.tif", incoming)),
        slide.unlink,
        nothing,
        lambda: shutil.copy(drawn / "one.tif", slide),
        nothing, nothing,
    )  # fmt: skip
    assert sorted(night.pass_by()) == ["one.tif done", "two.tif done"]
    assert [text for text in night.said if "has gone before it was scored" in text]


def test_a_folder_that_goes_is_said_once_and_looked_for_again(incoming, drawn):
    away = incoming.with_name("away")
    night = Night(
        incoming, drawn,
        lambda: incoming.rename(away), nothing, nothing,
        lambda: (away.rename(incoming), shutil.copy(drawn / "one.tif", incoming)),
        nothing, nothing,
    )  # fmt: skip
    assert night.pass_by() == ["one.tif done"]
    assert len([text for text in night.said if "cannot be opened" in text]) == 1


def test_a_folder_of_pixels_must_come_to_rest_too(incoming):
    (incoming / "HE.dzi").write_text("<Image/>")
    before = mark_of(incoming / "HE.dzi")
    (incoming / "HE_files" / "0").mkdir(parents=True)
    (incoming / "HE_files" / "0" / "0_0.jpeg").write_bytes(b"a")
    grown = mark_of(incoming / "HE.dzi")
    (incoming / "HE_files" / "0" / "0_0.jpeg").write_bytes(b"ab")
    assert len({before, grown, mark_of(incoming / "HE.dzi")}) == 3
    (incoming / "s.mrxs").touch()
    before = mark_of(incoming / "s.mrxs")
    (incoming / "s").mkdir()
    (incoming / "s" / "Data0000.dat").touch()
    assert mark_of(incoming / "s.mrxs") != before
    (incoming / "1.dcm").touch()
    before = mark_of(incoming / "1.dcm")
    (incoming / "2.dcm").touch()
    assert mark_of(incoming / "1.dcm") != before


def scores(results: Path) -> dict[str, float]:
    found = [json.loads(path.read_text()) for path in results.glob("[!.]*/summary.json")]
    return {summary["slide"]["name"]: summary["slide_score"] for summary in found}


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_stop_at_any_moment_loses_nothing(incoming, drawn):
    """Killed, ended and interrupted; the same command goes on, and the worklist is whole."""
    results = incoming.parent / "results"
    command = [
        sys.executable, "-m", "wsi_anomaly", "score", "--watch", str(incoming), "--settle", "0.2",
        "--model", str(drawn / "model"), "-o", str(results), "--workers", "1", "--device", "cpu",
    ]  # fmt: skip

    def until(slides: int, end: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=dict(os.environ),
            # As from a terminal: what a shell starts in the background ignores Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
        )  # fmt: skip
        give_up = time.monotonic() + 120
        while len(scores(results)) < slides and time.monotonic() < give_up:
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            time.sleep(0.05)
        process.send_signal(end)
        process.communicate(timeout=60)
        return process

    shutil.copy(drawn / "one.tif", incoming)
    assert until(1, signal.SIGKILL).returncode == -signal.SIGKILL
    shutil.copy(drawn / "two.tif", incoming)
    assert until(2, signal.SIGTERM).returncode != 0
    shutil.copy(drawn / "two.tif", incoming / "three.tif")
    assert until(3, signal.SIGINT).returncode == 130
    assert set(scores(results)) == {"one", "two", "three"}
    table = (results / "slides.csv").read_text()
    assert all(name in table for name in ("one.tif", "two.tif", "three.tif"))
    assert not list(results.glob(".*.partial*"))
