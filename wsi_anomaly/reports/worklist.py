"""``index.html`` and ``slides.csv``: all results of a folder, most abnormal first.

Built from the ``summary.json`` files, and from notes of what failed, so that results
of several runs, or of several machines, stand in one list.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.core.files import write_json, write_text
from wsi_anomaly.core.tables import table_text
from wsi_anomaly.reports.kinds import PAGE as KINDS_PAGE
from wsi_anomaly.reports.kinds import write_kinds
from wsi_anomaly.reports.report import environment
from wsi_anomaly.reports.worklist_cases import note_cases
from wsi_anomaly.reports.worklist_rows import (
    BESIDE,
    INCOMPARABLE,
    Row,
    Rows,
    failure_file,
    name_of,
    rows_beside,
)
from wsi_anomaly.results.batch import BatchShift, shift_of
from wsi_anomaly.results.summary import FORMAT
from wsi_anomaly.scoring import LIMITS, MARKED
from wsi_anomaly.slides import Other

COHORT_PAGE = "cohort.html"

_NOT_IN_TABLE = {"thumbnail", "folder", "fingerprint", "measured", "normal"}
_GROWTH = 20
_SCRIPT = Path(__file__).parent / "templates" / "worklist.js"
_PAUSE = 1000  # times as long as writing took


def _batch(rows: Sequence[Row]) -> BatchShift | None:
    """How the new slides with the most common reference lie beside it, as a batch."""
    new = [r for r in rows if r.status == "done" and r.normal and r.measured]
    common = Counter((r.model, r.reference) for r in new).most_common(1)
    return shift_of([vars(r) for r in new if common and (r.model, r.reference) == common[0][0]])


def _shown(rows: Sequence[Row]) -> str:
    """Say how many false regions there would be, were all of the tissue normal."""
    counts = [r.regions or 0 for r in rows if r.status == "done" and r.can_flag]
    if not counts:
        return ""
    return (
        f" It shows {sum(counts) / len(counts):.1f} flagged regions a slide: all of them false, "
        "were all of its tissue normal; the reports say how many were promised at most."
    )


_COLUMNS = (
    ("Rank", "n"), ("Picture", ""), ("Slide", "text"), ("Slide score", "n"),
    ("Mean of top tenth", "n"), ("Flagged", "n"), ("Not assessed", "n"), ("Status", "text"),
)  # fmt: skip
_KINDS = (
    ("all", "All"), ("flagged", "Flagged"), ("open", "Not reviewed"), ("reviewed", "Reviewed"),
    ("warned", "Warned"), ("unlike", "Cannot be compared"), ("failed", "Failed"),
)  # fmt: skip


def _kinds(row: Row) -> list[str]:
    """Say which of the page's filters show a slide."""
    is_of = {
        "flagged": bool(row.regions),
        "open": bool(row.regions) and (row.reviewed or 0) < (row.regions or 0),
        "reviewed": bool(row.regions) and (row.reviewed or 0) >= (row.regions or 0),
        "warned": bool(row.note) and row.status != "failed",
        "unlike": row.verdict == INCOMPARABLE,
        "failed": row.status == "failed",
    }
    return [kind for kind, holds in is_of.items() if holds]


def _by_case(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Put the slides of a case together, where its highest one stands; without cases all in one."""
    if len({row.case for row in rows}) < 2:
        return [("", list(rows))]
    cases: dict[str | int, list[Row]] = {}
    for i, row in enumerate(rows):
        cases.setdefault(row.case or i, []).append(row)
    return [(members[0].case, members) for members in cases.values()]


def _script() -> dict[str, Any]:
    """Give the page's script, and the hash by which the page allows it and no other."""
    from markupsafe import Markup

    text = _SCRIPT.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    # Our own file, and no text of a slide goes into it.
    return {"script": Markup(text), "script_hash": f"sha256-{digest}"}  # noqa: S704


class Worklist:
    """The worklist while slides are scored; a context that leaves it complete, whatever happens.

    To write it takes the longer the more slides there are. So after a slide it is written only
    when it grows by a twentieth, or when a thousandth of the time goes into it: at once with few
    slides, every few minutes with thousands. A run that is killed leaves it whole, at worst
    without its last slides; the next run adds them.

    Parameters
    ----------
    results
        The folder that holds one folder per slide; other runs may write into it too.
    """

    def __init__(self, results: str | Path) -> None:
        self._results = Path(results)
        self._rows = Rows(self._results)
        self._trouble: OutputError | None = None
        self._listed = 0
        self._new = 0
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: object, _trace: object) -> None:
        with contextlib.nullcontext() if error is None else contextlib.suppress(OutputError):
            write_kinds(self._results)
            self.write()
            if self._trouble is not None:
                raise self._trouble

    def beside(self, others: Iterable[Other]) -> None:
        """Take in what lies beside the slides; what earlier runs found there stays listed."""
        known = {
            path: row for path, row in rows_beside(self._results).items() if os.path.lexists(path)
        }
        known |= {
            str(o.path): Row(name_of(o.path), o.status, note=o.reason, path=str(o.path))
            for o in others
        }
        if known:
            entries = [
                {"path": row.path, "status": row.status, "reason": row.note}
                for row in known.values()
            ]
            with self._no_end():
                write_json(self._results / BESIDE, {"format": FORMAT, "beside": entries})

    def name_cases(self, cases: Mapping[str, str]) -> None:
        """Take in whose slides are, by the name of their folder or by their path."""
        if cases:
            with self._no_end():
                note_cases(self._results, cases)

    def done(self, slide: str) -> None:
        """Take in a slide that is scored; an older failure is forgotten."""
        with contextlib.suppress(OSError):
            failure_file(self._results, slide).unlink(missing_ok=True)
        self._bring_up_to_date()

    def failed(self, slide: str, reason: str) -> None:
        """Remember that a slide could not be scored, also for runs on other machines."""
        entry = {"format": FORMAT, "path": slide, "reason": reason}
        with self._no_end():
            write_json(failure_file(self._results, slide), entry)
        self._bring_up_to_date()

    def _bring_up_to_date(self) -> None:
        self._new += 1
        if self._new * _GROWTH >= self._listed or time.monotonic() > self._next:
            with self._no_end():
                self.write()

    @contextlib.contextmanager
    def _no_end(self) -> Iterator[None]:
        """Keep an error about one file of the list for the end: the slides go on."""
        try:
            yield
        except OutputError as error:
            if error.for_all:
                raise
            self._trouble = error

    def write(self) -> Path:
        """Write ``index.html`` and ``slides.csv``; see :func:`write_worklist`."""
        started = time.monotonic()
        rows = self._rows.collect()
        listed = {row.path for row in rows}
        beside = [
            row
            for path, row in rows_beside(self._results).items()
            if listed.isdisjoint((path, str(Path(path).absolute())))
        ]
        names = [f.name for f in fields(Row) if f.name not in _NOT_IN_TABLE]
        lines = ([getattr(row, name) for name in names] for row in [*rows, *beside])
        table = table_text(names, lines)
        write_text(self._results / "slides.csv", table)
        page = (
            environment()
            .get_template("index.html.j2")
            .render(
                rows=rows,
                cases=_by_case(rows),
                beside=len(beside),
                flagged=sum(1 for r in rows if r.regions),
                seen=sum(1 for r in rows if r.status.startswith("seen")),
                failed=sum(1 for r in rows if r.status == "failed"),
                models=len({r.model for r in rows if r.model}),
                unlike=sum(1 for r in rows if r.verdict == INCOMPARABLE),
                alone=sum(1 for r in rows if r.reference in LIMITS),
                marked=sum(1 for r in rows if r.reference == MARKED),
                batch=_batch(rows),
                shown=_shown(rows),
                cohort=(self._results / COHORT_PAGE).is_file(),
                kinds_page=(self._results / KINDS_PAGE).is_file(),
                columns=_COLUMNS,
                kinds=[k for k in _KINDS if k[0] == "all" or any(k[0] in _kinds(r) for r in rows)],
                kinds_of=lambda row: " ".join(_kinds(row)),
                **_script(),
            )
        )
        write_text(self._results / "index.html", page)
        ended = time.monotonic()
        self._listed, self._new, self._next = len(rows), 0, ended + _PAUSE * (ended - started)
        return self._results / "index.html"


def write_worklist(results: str | Path) -> Path:
    """Write ``index.html`` and ``slides.csv`` of a results folder.

    Parameters
    ----------
    results
        The folder that holds one folder per slide.

    Returns
    -------
    pathlib.Path
        ``index.html``.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    return Worklist(results).write()
