"""``index.html`` and ``slides.csv``: all results of a folder, most abnormal first.

Rebuilt each time from the ``summary.json`` files, and from notes of what failed, so that results
of several runs, or of several machines, stand in one list.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from wsi_anomaly.core.files import write_json, write_text
from wsi_anomaly.core.tables import table_text
from wsi_anomaly.overlays.report import environment
from wsi_anomaly.overlays.summary import FORMAT

COHORT_PAGE = "cohort.html"
_FAILED = ".failed"


@dataclass(frozen=True)
class Row:
    """One slide of the worklist; None where something is not known."""

    slide: str
    status: str
    rank: int | None = None
    slide_score: float | None = None
    slide_percentile: float | None = None
    mean_of_top_tenth: float | None = None
    regions: int | None = None
    flagged_mm2: float | None = None
    can_flag: bool = False
    threshold: float | None = None
    not_assessed_mm2: float | None = None
    tissue_mm2: float | None = None
    not_assessed_why: str = ""
    note: str = ""
    report: str = ""
    thumbnail: str = ""
    reference: str = ""
    model: str = ""
    path: str = ""
    folder: str = ""


def read_summary(folder: Path) -> dict[str, Any] | None:
    """Summary of a result folder; None where there is none that this program wrote."""
    try:
        value = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value.get("format") == FORMAT else None


def failure_file(results: Path, slide: str) -> Path:
    """File in which a results folder remembers that a slide could not be scored."""
    mark = hashlib.sha256(slide.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return results / _FAILED / f"{mark}.json"


def note_failure(results: Path, slide: str, reason: str) -> None:
    """Remember that a slide could not be scored, also for runs on other machines."""
    entry = {"format": FORMAT, "path": slide, "reason": reason}
    write_json(failure_file(results, slide), entry)


def forget_failure(results: Path, slide: str) -> None:
    """Forget an older failure: the slide is scored now."""
    with contextlib.suppress(OSError):
        failure_file(results, slide).unlink(missing_ok=True)


def _failures(results: Path) -> dict[str, str]:
    out = {}
    for file in sorted((results / _FAILED).glob("*.json")):
        try:
            entry = json.loads(file.read_text(encoding="utf-8"))
            out[str(entry["path"])] = str(entry["reason"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return out


def _float(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _row(folder: Path, summary: Mapping[str, Any]) -> Row:
    flagged, slide = _dict(summary.get("flagged")), _dict(summary.get("slide"))
    seen = summary.get("seen_in")
    warnings = summary.get("warnings")
    here = quote(folder.name)
    thumbnail = folder / "thumbnail.jpg"
    regions = _float(flagged.get("regions"))
    return Row(
        slide=str(slide.get("name", folder.name)),
        status=f"seen in {seen}" if seen else str(summary.get("status", "done")),
        slide_score=_float(summary.get("slide_score")),
        slide_percentile=_float(summary.get("slide_percentile")),
        mean_of_top_tenth=_float(summary.get("mean_of_top_tenth")),
        regions=None if regions is None else int(regions),
        flagged_mm2=_float(flagged.get("area_mm2")) or 0.0,
        can_flag=flagged.get("possible") is True,
        threshold=_float(flagged.get("threshold")),
        not_assessed_mm2=_float(summary.get("not_assessed_mm2")),
        tissue_mm2=_float(summary.get("tissue_mm2")),
        not_assessed_why=", ".join(
            f"{reason} {area:.2f}"
            for reason, value in _dict(summary.get("not_assessed_by_reason_mm2")).items()
            if (area := _float(value)) is not None
        ),
        note=" ".join(map(str, warnings)) if isinstance(warnings, list) else "",
        report=f"{here}/report.html",
        thumbnail=f"{here}/thumbnail.jpg" if thumbnail.is_file() else "",
        reference=str(_dict(summary.get("calibration")).get("name", "")),
        model=str(_dict(summary.get("model")).get("hash", "")),
        path=str(slide.get("path", "")),
        folder=folder.name,
    )


def read_row(folder: Path) -> Row | None:
    """Row of one slide; None where there is no result."""
    summary = read_summary(folder)
    return None if summary is None else _row(folder, summary)


def collect(results: Path) -> list[Row]:
    """Rows of a results folder: scored slides by falling slide score, then what failed."""
    rows = []
    for folder in sorted(p for p in results.iterdir() if p.is_dir() and p.name[0] != "."):
        row = read_row(folder)
        if row is not None:
            rows.append(row)
    rows.sort(key=lambda r: (r.slide_score is None, -(r.slide_score or 0.0), r.slide))
    ranked = [replace(row, rank=i) for i, row in enumerate(rows, start=1)]
    return ranked + [
        Row(slide=Path(path).name, status="failed", note=reason, path=path)
        for path, reason in sorted(_failures(results).items())
    ]


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
    results = Path(results)
    rows = collect(results)
    names = [f.name for f in fields(Row) if f.name not in {"thumbnail", "folder"}]
    table = table_text(names, ([getattr(row, name) for name in names] for row in rows))
    write_text(results / "slides.csv", table)
    page = (
        environment()
        .get_template("index.html.j2")
        .render(
            rows=rows,
            flagged=sum(1 for r in rows if r.regions),
            seen=sum(1 for r in rows if r.status.startswith("seen")),
            failed=sum(1 for r in rows if r.status == "failed"),
            models=len({r.model for r in rows if r.model}),
            cohort=(results / COHORT_PAGE).is_file(),
        )
    )
    write_text(results / "index.html", page)
    return results / "index.html"
