"""Whether a results folder is what its trail says."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.wording import counted
from wsi_anomaly.results.marks import FOLDER as MARKS
from wsi_anomaly.results.reviews import FOLDER, written_lines
from wsi_anomaly.results.summary import read_summary, result_names
from wsi_anomaly.results.trail import TRAIL, checksums, read_trail

REPORT = "report.html"


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes
    ----------
    problems
        A sentence for everything that is not as recorded; empty when all is.
    runs, results, reviews, marks
        How many of each the trail holds.
    models
        Hash of each model that was used, and how many results it gave.
    seal
        Hash of the trail's last line.
    """

    problems: list[str]
    runs: int
    results: int
    reviews: int
    marks: int
    models: dict[str, int]
    seal: str


def audit_results(results: Path, seal: str | None = None) -> Audit:
    """Compare a results folder with its trail.

    Parameters
    ----------
    results
        Written by ``wsi-anomaly score``.
    seal
        Hash of a former last line, as it was noted then: the trail must still hold that line.

    Raises
    ------
    UsageError
        The folder holds neither results nor a trail.
    OutputError
        Something cannot be read.
    """
    names = result_names(results)
    if not names and not (results / TRAIL).exists():
        raise UsageError(
            f"{results} holds no results; give the folder that 'wsi-anomaly score' has written."
        )
    events, problems, last = read_trail(results)
    if seal is not None and seal not in {last, *(str(e.get("previous")) for e in events[1:])}:
        problems.append(f"No line of {results / TRAIL} has the hash {seal[:64]}.")
    scored: dict[str, dict[str, Any]] = {}
    reports: dict[str, set[str]] = {}  # a report is written anew when its regions are reviewed
    for event in events:
        name = str(event.get("result"))
        if event["event"] == "scored":
            scored[name], reports[name] = event, set()
        elif event["event"] == "report":
            reports.setdefault(name, set()).add(str(event.get("sha256")))
    for name in sorted({*names, *scored}):
        problems += _check_result(results / name, scored.get(name), reports.get(name, set()))
    reviewed = [e for e in events if e["event"] == "review"]
    problems += _check_reviews(results, reviewed)
    marked = [e for e in events if e["event"] == "mark"]
    problems += _check_marks(results, marked)
    return Audit(
        problems,
        sum(e["event"] == "run" for e in events),
        len(scored),
        len(reviewed),
        len(marked),
        dict(Counter(str(e.get("model")) for e in scored.values())),
        last,
    )


def _check_result(folder: Path, event: dict[str, Any] | None, reports: set[str]) -> list[str]:
    if event is None:
        return [f"{folder} is in no record: it was made by an older version, or put there."]
    path = folder / "summary.json"
    summary = read_summary(folder)
    if summary is None:
        return [f"{folder} was scored on {event.get('time')} and is missing or damaged now."]
    if hashlib.sha256(path.read_bytes()).hexdigest() != event.get("summary_sha256"):
        return [f"{path} was changed after {event.get('time')}."]
    recorded = summary.get("checksums")
    recorded = recorded if isinstance(recorded, dict) else {}
    found = checksums(folder)
    if found.get(REPORT) in reports:
        found[REPORT] = recorded.get(REPORT, "")
    return [
        f"{folder / name} was "
        + ("taken away" if name not in found else "changed" if name in recorded else "put there")
        + f" after {event.get('time')}."
        for name in sorted({*recorded, *found})
        if recorded.get(name) != found.get(name)
    ]


def _check_reviews(results: Path, events: list[dict[str, Any]]) -> list[str]:
    recorded = Counter((str(e.get("file")), str(e.get("line_sha256"))) for e in events)
    found: Counter[tuple[str, str]] = Counter()
    for path in sorted((results / FOLDER).glob("*/*.jsonl")):
        name = path.relative_to(results).as_posix()
        found.update(
            (name, hashlib.sha256(line).hexdigest())
            for line in written_lines(path)
            if line.endswith(b"\n")  # else it was being written when its program was killed
        )
    gone, new = recorded - found, found - recorded
    problems = []
    for name in sorted({file for file, _ in (*gone, *new)}):
        lost = sum(count for (file, _), count in gone.items() if file == name)
        more = sum(count for (file, _), count in new.items() if file == name)
        problems.append(
            f"{results / name}: {counted(lost, 'recorded review')} changed or taken out, "
            f"{more} in no record."
        )
    return problems


def _check_marks(results: Path, events: list[dict[str, Any]]) -> list[str]:
    recorded = {str(e.get("file")): str(e.get("sha256")) for e in events}  # the last one counts
    last = {str(e.get("file")): e.get("time") for e in events}
    found = {
        path.relative_to(results).as_posix(): _sha256(path)
        for path in sorted((results / MARKS).rglob("*"))
        if path.is_file() and not path.name.startswith(".")  # locks, and what is being written
    }
    return [
        f"{results / name} is in no record."
        if name not in recorded
        else f"{results / name} was {'changed' if name in found else 'taken away'} after "
        f"{last[name]}."
        for name in sorted({*recorded, *found})
        if found.get(name, "") != recorded.get(name, "")
    ]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
