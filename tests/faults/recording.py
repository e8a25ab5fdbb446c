"""What was tried, what survived, what was lost: counted, asserted, and written down.

``make faults`` names a folder in FAULTS_RECORD; each fault leaves one JSON file there, from which
``python tests/faults/table.py`` makes the table of ``docs/reliability.md``.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from wsi_anomaly import __version__

LIBRARIES = ("h5py", "openslide-bin", "imagecodecs", "tifffile", "torch", "zarr")


class Tally:
    """Tries of one fault.

    Parameters
    ----------
    name
        Short name; of the file too.
    fault
        What is done to the program, for people.
    promise
        What has to hold afterwards.
    """

    def __init__(self, name: str, fault: str, promise: str) -> None:
        self.name, self.fault, self.promise = name, fault, promise
        self.tried = 0
        self.lost: list[str] = []
        self.counts: dict[str, int] = {}
        self._started = time.monotonic()

    @contextlib.contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """One try; whatever does not hold inside counts as lost."""
        self.tried += 1
        with self.check(what):
            yield

    @contextlib.contextmanager
    def check(self, what: str) -> Iterator[None]:
        """What has to hold of all tries together."""
        try:
            yield
        except AssertionError as error:
            self.lost.append(f"{what}: {' '.join(str(error).split())[:300]}")

    def note(self, outcome: str, times: int = 1) -> None:
        """Count how a try went, for the table."""
        self.counts[outcome] = self.counts.get(outcome, 0) + times

    def finish(self) -> None:
        """Write the record, then fail if anything was lost."""
        folder = os.environ.get("FAULTS_RECORD")
        if folder:
            record = {
                "fault": self.fault,
                "promise": self.promise,
                "tried": self.tried,
                "survived": max(0, self.tried - len(self.lost)),
                "lost": self.lost,
                "outcomes": self.counts,
                "seconds": round(time.monotonic() - self._started),
                "date": dt.datetime.now(dt.UTC).date().isoformat(),
                "program": f"wsi-anomaly {__version__} ({_commit()})",
                "python": platform.python_version(),
                "system": f"{platform.system()} {platform.machine()}",
                "libraries": {name: version(name) for name in LIBRARIES},
            }
            path = Path(folder) / f"{self.name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record, indent=1) + "\n")
        assert self.tried
        assert not self.lost, "\n".join([f"{len(self.lost)} of {self.tried} lost", *self.lost])


def _commit() -> str:
    here = Path(__file__).parent
    command = ["git", "rev-parse", "--short", "HEAD"]
    ran = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    return ran.stdout.strip() or "no commit"
