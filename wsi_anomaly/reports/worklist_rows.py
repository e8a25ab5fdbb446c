"""Rows of the worklist, read from ``summary.json`` files and from notes of what failed."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.core.file_names import as_text
from wsi_anomaly.core.wording import area_text
from wsi_anomaly.reports.worklist_cases import noted_cases
from wsi_anomaly.results.review_matching import reviewed_regions
from wsi_anomaly.results.reviews import FOLDER as REVIEWS
from wsi_anomaly.results.reviews import read_reviews
from wsi_anomaly.results.summary import read_entry, read_summary
from wsi_anomaly.scoring import LIMITS

INCOMPARABLE = "cannot be compared"
"""Verdict of slides that stand on top of the worklist, without a rank."""
BESIDE = ".beside.json"
"""File of a results folder that says what lies beside its slides and is none."""

_FAILED = ".failed"


@dataclass(frozen=True)
class Row:
    """One slide of the worklist; None where something is not known."""

    slide: str
    status: str
    verdict: str = ""
    rank: int | None = None
    slide_score: float | None = None
    slide_percentile: float | None = None
    mean_of_top_tenth: float | None = None
    regions: int | None = None
    flagged_mm2: float | None = None
    taken_away: int | None = None
    taken_away_mm2: float | None = None
    reviewed: int | None = None
    can_flag: bool = False
    threshold: float | None = None
    normal_slides_with_flags: float | None = None
    not_assessed_mm2: float | None = None
    tissue_mm2: float | None = None
    not_assessed_why: str = ""
    note: str = ""
    notice: str = ""
    report: str = ""
    thumbnail: str = ""
    reference: str = ""
    normal_slides: int | None = None
    model: str = ""
    case: str = ""
    path: str = ""
    folder: str = ""
    fingerprint: str = ""
    measured: Mapping[str, Any] = field(default_factory=dict)
    normal: Mapping[str, Any] = field(default_factory=dict)


def failure_file(results: Path, slide: str) -> Path:
    """File in which a results folder remembers that a slide could not be scored."""
    mark = hashlib.sha256(slide.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return results / _FAILED / f"{mark}.json"


def _float(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) else None


def _count(value: Any) -> int | None:
    number = _float(value)
    return None if number is None else int(number)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _failed_row(_file: Path, entry: Mapping[str, Any]) -> Row | None:
    if "path" not in entry or "reason" not in entry:
        return None
    path = str(entry["path"])
    return Row(slide=name_of(path), status="failed", note=str(entry["reason"]), path=path)


def rows_beside(results: Path) -> dict[str, Row]:
    """Rows of what lies beside the slides and is none, by path; a note can be damaged."""
    file = results / BESIDE
    entries = ((read_entry(file) if file.is_file() else None) or {}).get("beside")
    return {
        str(e["path"]): Row(name_of(e["path"]), str(e["status"]), note=str(e["reason"]),
                            path=str(e["path"]))
        for e in (entries if isinstance(entries, list) else [])
        if isinstance(e, dict) and {"path", "status", "reason"} <= e.keys()
    }  # fmt: skip


def name_of(path: Any) -> str:
    """Name of a file, for people."""
    return as_text(Path(str(path)).name)


def _row(file: Path, summary: Mapping[str, Any]) -> Row:
    folder = file.parent
    flagged, slide = _dict(summary.get("flagged")), _dict(summary.get("slide"))
    seen = summary.get("seen_in")
    here = quote(folder.name, errors="surrogateescape")
    thumbnail = folder / "thumbnail.jpg"
    return Row(
        slide=str(slide.get("name", folder.name)),
        status=f"seen in {seen}" if seen else str(summary.get("status", "done")),
        verdict=str(summary.get("verdict", "")),
        slide_score=_float(summary.get("slide_score")),
        slide_percentile=_float(summary.get("slide_percentile")),
        mean_of_top_tenth=_float(summary.get("mean_of_top_tenth")),
        regions=_count(flagged.get("regions")),
        flagged_mm2=_float(flagged.get("area_mm2")) or 0.0,
        taken_away=_count(_dict(summary.get("taken_away")).get("regions")),
        taken_away_mm2=_float(_dict(summary.get("taken_away")).get("area_mm2")),
        can_flag=flagged.get("possible") is True,
        threshold=_float(flagged.get("threshold")),
        normal_slides_with_flags=_float(flagged.get("normal_slides_with_flags")),
        not_assessed_mm2=_float(summary.get("not_assessed_mm2")),
        tissue_mm2=_float(summary.get("tissue_mm2")),
        not_assessed_why=", ".join(
            f"{reason} {area_text(area)}"
            for reason, value in _dict(summary.get("not_assessed_by_reason_mm2")).items()
            if (area := _float(value)) is not None
        ),
        note=_sentences(summary.get("warnings")),
        notice=_sentences(summary.get("notices")),
        report=f"{here}/report.html",
        thumbnail=f"{here}/thumbnail.jpg" if thumbnail.is_file() else "",
        normal_slides=_count(_dict(summary.get("calibration")).get("slides")),
        reference=name
        if (name := str(_dict(summary.get("model")).get("name"))) in LIMITS
        else str(_dict(summary.get("calibration")).get("name", "")),
        model=str(_dict(summary.get("model")).get("hash", "")),
        path=str(slide.get("path", "")),
        folder=folder.name,
        fingerprint=str(slide.get("fingerprint", "")),
        measured=_dict(summary.get("measured")),
        normal=_dict(_dict(summary.get("calibration")).get("measured")),
    )


def _sentences(found: Any) -> str:
    return " ".join(map(str, found)) if isinstance(found, list) else ""


def read_row(folder: Path) -> Row | None:
    """Row of one slide; None where there is no result."""
    summary = read_summary(folder)
    return None if summary is None else _row(folder / "summary.json", summary)


def collect(results: Path) -> list[Row]:
    """Rows of a results folder: scored slides by falling slide score, then what failed."""
    return Rows(results).collect()


class Rows:
    """Rows of a results folder; what has been read once is read again only when it has changed."""

    def __init__(self, results: Path) -> None:
        self._results = results
        self._known: dict[Path, tuple[tuple[int, ...], Row | None]] = {}
        self._counts: dict[Path, tuple[Any, int | None]] = {}

    def collect(self) -> list[Row]:
        """Rows as the files say them now, see :func:`collect`."""
        folders = (p for p in self._results.iterdir() if p.name[0] != ".")
        rows = self._reviewed(self._read((p / "summary.json" for p in folders), _row))
        # What was compared with itself compares with nothing else: it stands by name, unranked.
        alone = [row for row in rows if row.reference in LIMITS]
        alone.sort(key=lambda r: (r.slide, r.folder))
        rows = [row for row in rows if row.reference not in LIMITS]
        rows.sort(key=lambda r: (r.slide_score is None, -(r.slide_score or 0.0), r.slide, r.folder))
        # Nor does what cannot be compared with normal slides; it needs eyes first.
        unlike = [r for r in rows if r.verdict == INCOMPARABLE]
        rows = [r for r in rows if r.verdict != INCOMPARABLE]
        ranked = unlike + [replace(row, rank=i) for i, row in enumerate(rows, start=1)] + alone
        failed = self._read((self._results / _FAILED).glob("*.json"), _failed_row)
        rows = ranked + sorted(failed, key=lambda row: row.path)
        cases = noted_cases(self._results)
        return [replace(r, case=cases.get(r.folder or r.path, "")) for r in rows] if cases else rows

    def _reviewed(self, rows: list[Row]) -> list[Row]:
        """Count what readers have reviewed of the slides that somebody has."""
        stamps: dict[str, list[tuple[str, int, int]]] = {}
        for file in (self._results / REVIEWS).glob("*/*.jsonl"):
            with contextlib.suppress(OSError):
                is_now = file.stat()
                stamp = file.name, is_now.st_mtime_ns, is_now.st_size
                stamps.setdefault(file.parent.name.rpartition("-")[2], []).append(stamp)
        return [
            replace(row, reviewed=self._count(row, sorted(stamps[row.fingerprint])))
            if row.fingerprint in stamps
            else row
            for row in rows
        ]

    def _count(self, row: Row, stamp: list[tuple[str, int, int]]) -> int | None:
        folder = self._results / row.folder
        known = self._known.get(folder / "summary.json", ((), None))[0], stamp
        before, count = self._counts.get(folder, (None, None))
        if before != known:
            try:
                reviews = read_reviews(self._results, row.fingerprint)
                count = reviewed_regions(folder, read_summary(folder) or {}, reviews)
            except (OutputError, LookupError, TypeError):
                count = None  # `view` says what is wrong
            self._counts[folder] = known, count
        return count

    def _read(
        self, files: Iterable[Path], make: Callable[[Path, Mapping[str, Any]], Row | None]
    ) -> list[Row]:
        found = []
        for file in files:
            try:
                is_now = file.stat()
            except OSError:
                continue  # no result, or another run has just removed it
            stamp = (is_now.st_mtime_ns, is_now.st_size, is_now.st_ino)
            before, row = self._known.get(file, (None, None))
            if stamp != before:
                entry = read_entry(file)
                row = None if entry is None else make(file, entry)
                self._known[file] = stamp, row
            if row is not None:
                found.append(row)
        return found
