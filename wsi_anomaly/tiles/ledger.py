"""``slides.csv``: what became of every slide, beside the tile files."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.core.files import output_errors, write_text
from wsi_anomaly.core.tables import own_rows, table_text
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


class Ledger:
    """The table while a run goes on.

    It is brought up to date now and then, so that a run that is killed leaves it nearly whole.
    Several runs may share one table.

    Parameters
    ----------
    path
        ``slides.csv``.
    """

    def __init__(self, path: Path) -> None:
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
        write_ledger(self._path, self._new)
        self._new.clear()


def write_ledger(path: Path, outcomes: Iterable[TileOutcome]) -> None:
    """Write or update the table: these slides anew, all others as they were.

    ``status`` is done, kept (finished before, under the same configuration) or error; ``reason``
    says why, or what is to be known.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    with output_errors(path), _alone(path):
        rows = {row["slide"]: row for row in own_rows(path, COLUMNS)}
        for outcome in outcomes:
            rows[str(outcome.job.slide)] = _row(outcome)
        write_text(path, table_text(COLUMNS, (rows[slide].values() for slide in sorted(rows))))


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other runs from updating the table at the same moment.

    The lock goes with the process that holds it, so it cannot be left behind. File systems without
    locks do without it.
    """
    with open(path.with_name(f".{path.name}.lock"), "w") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _row(outcome: TileOutcome) -> dict[str, str]:
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
