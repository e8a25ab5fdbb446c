"""``slides.csv``: what became of every slide, beside the tile files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from wsi_anomaly.core.files import write_text
from wsi_anomaly.tiles.fields import Status
from wsi_anomaly.tiles.pool import Outcome

COLUMNS = (
    "slide",
    "status",
    "reason",
    "tile_file",
    "case",
    "magnifications",
    "tiles",
    *(status.name.lower() for status in Status),
    "seconds",
)


def write_ledger(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Write or update the table: slides of this run anew, those of former runs as they were.

    ``status`` is done, kept (finished before, under the same configuration) or error; ``reason``
    says why, or what is to be known.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    rows = _former(path)
    for outcome in outcomes:
        rows[str(outcome.job.slide)] = _row(outcome)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[slide] for slide in sorted(rows))
    write_text(path, text.getvalue())


def _row(outcome: Outcome) -> dict[str, str]:
    job, result = outcome.job, outcome.result
    row = dict.fromkeys(COLUMNS, "")
    row |= {
        "slide": str(job.slide),
        "case": job.case or job.name,
        "seconds": f"{outcome.seconds:.1f}",
    }
    if result is None:
        return row | {"status": "error", "reason": outcome.error}
    return row | {
        "status": "kept" if result.skipped else "done",
        "reason": "; ".join(result.notes),
        "tile_file": result.path.name,
        "magnifications": " ".join(f"{m}x" for m in result.magnifications),
        "tiles": str(result.tiles),
        **{name: str(count) for name, count in result.counts.items()},
    }


def _former(path: Path) -> dict[str, dict[str, str]]:
    """Rows of an earlier run; none when there is no such table, or another one."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                return {}
            return {row["slide"]: row for row in reader}
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}
