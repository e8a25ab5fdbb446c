"""Results as long as somebody looks at them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_anomaly.results.review_matching import regions_of
from wsi_anomaly.results.stored_scores import StoredScores
from wsi_anomaly.scoring import AnomalousRegion

_KEPT = 4


@dataclass(frozen=True, eq=False)
class OpenResult:
    """A result as long as it is looked at: its scores, and its regions with their outlines.

    Attributes
    ----------
    stored
        Its scores.
    regions, taken_away
        What is flagged, and what would be were it not like what readers called harmless.
    """

    stored: StoredScores
    regions: Sequence[AnomalousRegion]
    taken_away: Sequence[AnomalousRegion]

    @classmethod
    def read(cls, folder: Path) -> OpenResult:
        """Read it.

        Raises
        ------
        OutputError
            It is missing or damaged.
        """
        stored = StoredScores.read(folder)
        return cls(stored, regions_of(stored), regions_of(stored, stored.taken_away))


class OpenResults:
    """The results that were looked at last, read once until they are replaced."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Path, str], OpenResult] = {}
        self._lock = threading.Lock()

    def get(self, folder: Path, summary: Mapping[str, Any]) -> OpenResult:
        """Give the result of a folder, as its summary has it now."""
        key = folder, f"{summary['result_hash']} {(folder / 'summary.json').stat().st_mtime_ns}"
        with self._lock:
            if key not in self._kept:
                self._kept[key] = OpenResult.read(folder)
                while len(self._kept) > _KEPT:
                    del self._kept[next(iter(self._kept))]
            return self._kept[key]
