"""The worklist while slides are scored: whole at any time, complete at the end, and cheap."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from wsi_anomaly.reports import Worklist, worklist, worklist_rows, write_worklist
from wsi_anomaly.results.summary import FORMAT

SLIDES = 400


def finish(results: Path, number: int) -> str:
    """Put down the result of a slide; its name."""
    name = f"slide {number}"
    (results / name).mkdir(parents=True)
    facts = {"format": FORMAT, "slide": {"name": name}, "slide_score": float(number)}
    (results / name / "summary.json").write_text(json.dumps(facts), encoding="utf-8")
    return name


def listed(results: Path) -> list[str]:
    with open(results / "slides.csv", newline="", encoding="utf-8") as file:
        return [row["slide"] for row in csv.DictReader(file)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands still unless a test moves it."""
    made = SimpleNamespace(now=0.0)
    monkeypatch.setattr(worklist, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


def test_its_work_grows_with_the_slides_not_with_their_square(
    tmp_path: Path, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    written: list[int] = []
    real_read, real_write = worklist_rows.read_entry, worklist.write_text

    def count_read(file: Path):
        read.append(file)
        return real_read(file)

    def count_written(file: Path, text: str) -> None:
        written.append(text.count("\n") if file.name == "slides.csv" else 0)
        clock.now += 0.001 * len(listed(tmp_path)) if file.exists() else 0
        real_write(file, text)

    monkeypatch.setattr(worklist_rows, "read_entry", count_read)
    monkeypatch.setattr(worklist, "write_text", count_written)
    with Worklist(tmp_path) as running:
        for number in range(SLIDES):
            running.done(finish(tmp_path, number))
    assert len(read) == SLIDES  # each summary once
    assert sum(written) < 25 * SLIDES  # it was half of SLIDES squared
    assert len(listed(tmp_path)) == SLIDES


def test_it_shows_the_first_slides_at_once(tmp_path: Path, clock: SimpleNamespace) -> None:
    running = Worklist(tmp_path)
    for number in range(20):
        name = finish(tmp_path, number)
        running.done(name)
        assert name in listed(tmp_path)


def test_a_killed_run_leaves_it_whole_and_the_next_one_completes_it(
    tmp_path: Path, clock: SimpleNamespace
) -> None:
    killed = Worklist(tmp_path)  # never left as a context: nothing is done at its end
    for number in range(SLIDES):
        killed.done(finish(tmp_path, number))
        page = (tmp_path / "index.html").read_text(encoding="utf-8")
        assert page.rstrip().endswith("</html>")
    assert SLIDES * 0.9 < len(listed(tmp_path)) < SLIDES
    write_worklist(tmp_path)
    assert len(listed(tmp_path)) == SLIDES


def test_an_interrupted_run_leaves_it_complete(tmp_path: Path, clock: SimpleNamespace) -> None:
    with pytest.raises(KeyboardInterrupt), Worklist(tmp_path) as running:
        for number in range(SLIDES):
            running.done(finish(tmp_path, number))
        raise KeyboardInterrupt
    assert len(listed(tmp_path)) == SLIDES


def test_a_slow_run_shows_every_slide(tmp_path: Path, clock: SimpleNamespace) -> None:
    running = Worklist(tmp_path)
    for number in range(SLIDES):
        clock.now += 60.0
        name = finish(tmp_path, number)
        running.done(name)
        assert name in listed(tmp_path)


def test_slides_of_other_machines_appear_and_a_new_result_replaces_the_old(tmp_path: Path) -> None:
    running = Worklist(tmp_path)
    running.done(finish(tmp_path, 1))
    finish(tmp_path, 2)  # by a run elsewhere
    running.done("slide 1")
    assert listed(tmp_path) == ["slide 2", "slide 1"]
    summary = tmp_path / "slide 1" / "summary.json"
    facts = json.loads(summary.read_text(encoding="utf-8"))
    summary.write_text(json.dumps(facts | {"slide_score": 30.0}), encoding="utf-8")
    running.done("slide 1")
    assert listed(tmp_path) == ["slide 1", "slide 2"]


def test_slides_that_cannot_be_compared_stand_on_top_without_a_rank(tmp_path: Path) -> None:
    for number in range(3):
        finish(tmp_path, number)
    file = tmp_path / "slide 0" / "summary.json"
    facts = json.loads(file.read_text()) | {"verdict": "cannot be compared"}
    file.write_text(json.dumps(facts))
    page = write_worklist(tmp_path).read_text(encoding="utf-8")
    with open(tmp_path / "slides.csv", newline="", encoding="utf-8") as table:
        rows = [(row["slide"], row["rank"], row["verdict"]) for row in csv.DictReader(table)]
    assert rows == [
        ("slide 0", "", "cannot be compared"), ("slide 2", "1", ""), ("slide 1", "2", "")
    ]  # fmt: skip
    assert "1 slide cannot be compared with normal slides" in page


@pytest.mark.parametrize(
    ("shift", "said"),
    [(0.0, "No shift of the batch is seen"), (9.0, "is unlike the normal slides")],
)
def test_its_head_says_whether_the_batch_is_like_the_normal_slides(
    tmp_path: Path, shift: float, said: str
) -> None:
    normal = {"measured": {"median score": [1.0, 1.5, 2.0, 2.5, 3.0, 3.5]}, "name": "6 cases"}
    for number in range(6):
        finish(tmp_path, number)
        file = tmp_path / f"slide {number}" / "summary.json"
        measured = {"median score": 1.2 + number / 3 + shift, "sharpness": 1.0}
        facts = json.loads(file.read_text()) | {"measured": measured, "calibration": normal}
        facts["flagged"] = {"possible": True, "regions": number % 2}
        file.write_text(json.dumps(facts))
    page = write_worklist(tmp_path).read_text(encoding="utf-8")
    assert said in page
    assert "It shows 0.5 flagged regions a slide: all of them false, were all of" in page
