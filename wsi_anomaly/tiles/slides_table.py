"""``slides.csv``: what became of every slide, beside the tile files."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.core.file_names import as_text
from wsi_anomaly.core.files import output_errors, write_text
from wsi_anomaly.core.locks import alone_with
from wsi_anomaly.core.tables import own_rows, table_text
from wsi_anomaly.slides import Other
from wsi_anomaly.tiles.fields import STORED
from wsi_anomaly.tiles.tiling import TileOutcome

COLUMNS = (
    "slide",
    "status",
    "reason",
    "tile_file",
    "case",
    "magnifications",
    "tiles",
    *(status.name.lower() for status in STORED),
    "seconds",
)
_EVERY_SECONDS = 10.0


class SlidesTable:
    """The table while a run goes on.

    It is brought up to date now and then, so that a run that is killed leaves it nearly whole.
    Several runs may share one table.

    Parameters
    ----------
    path
        ``slides.csv``.
    others
        What else lies beside the slides.

    Attributes
    ----------
    note
        What must be known of the table; "" for nothing.
    """

    def __init__(self, path: Path, others: Sequence[Other] = ()) -> None:
        self.note = ""
        self._others = others
        self._path = path
        self._new: list[TileOutcome] = []
        self._written = time.monotonic()

    def add(self, outcome: TileOutcome) -> None:
        """Note what became of a slide. An error of writing waits for :meth:`write`."""
        self._new.append(outcome)
        if time.monotonic() - self._written > _EVERY_SECONDS:
            with contextlib.suppress(OutputError):
                self.write()

    def write(self) -> None:
        """Bring the table on disk up to date.

        Raises
        ------
        OutputError
            It cannot be written.
        """
        self._written = time.monotonic()
        self.note = write_slides_table(self._path, self._new, self._others)
        self._new.clear()


def write_slides_table(
    path: Path, outcomes: Iterable[TileOutcome], others: Iterable[Other] = ()
) -> str:
    """Write or update the table: these slides anew, all others as they were.

    ``status`` is done, kept (finished before, under the same configuration) or error, or that of
    a file that is no slide of its own; ``reason`` says why, or what is to be known.

    Returns
    -------
    str
        A sentence if other runs cannot be kept out meanwhile; else "".

    Raises
    ------
    OutputError
        It cannot be written.
    """
    with output_errors(path), alone_with(path) as alone:
        rows = {row["slide"]: row for row in own_rows(path, COLUMNS)}
        new = [_row(outcome) for outcome in outcomes]
        new += [_row_of_other(other) for other in others]
        rows |= {row["slide"]: row for row in new}
        write_text(path, table_text(COLUMNS, (rows[slide].values() for slide in sorted(rows))))
    if alone:
        return ""
    return (
        f"{path.parent} cannot be locked: if several runs write there at the same moment, "
        f"{path.name} may lack slides; run the same command again to complete it."
    )


def _row_of_other(other: Other) -> dict[str, str]:
    row = dict.fromkeys(COLUMNS, "")
    return row | {
        "slide": as_text(str(other.path)), "status": other.status, "reason": other.reason,
    }  # fmt: skip


def _row(outcome: TileOutcome) -> dict[str, str]:
    job, result = outcome.job, outcome.result
    row = dict.fromkeys(COLUMNS, "")
    row |= {
        "slide": as_text(str(job.slide)),
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
