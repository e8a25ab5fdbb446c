"""``slides.csv``: what became of every slide, beside the tile files."""

from __future__ import annotations

import contextlib
import errno
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.core.file_names import as_text
from wsi_anomaly.core.files import output_errors, write_text
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
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


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
    with output_errors(path), _alone(path) as alone:
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


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Keep other runs from updating the table at the same moment; False where nothing can.

    The lock goes with the process that holds it, so it cannot be left behind. A file that stands
    for a lock can: where there is nothing better, disks and systems do without.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has no better lock on this system
        from filelock import FileLock, SoftFileLock

    lock = FileLock(path.with_name(f".{path.name}.lock"), fallback_to_soft=False)
    with contextlib.ExitStack() as held:
        alone = not isinstance(lock, SoftFileLock)
        if alone:
            try:
                held.enter_context(lock)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                alone = False
        yield alone


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
