"""Kinds in the viewer: one key says of all regions of a kind what they are."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.reports.kinds import sheet, sheets
from wsi_anomaly.reports.report import environment
from wsi_anomaly.results.kinds import Kind, Kinds, decided_in, find_kinds
from wsi_anomaly.results.reviews import findings_used
from wsi_anomaly.results.summary import result_names
from wsi_anomaly.viewer.folder import TEMPLATES, Results
from wsi_anomaly.viewer.reviewing import Reviewing


class KindsPage:
    """The kinds of a results folder, reviewed as one; found once until a result is replaced.

    Parameters
    ----------
    results, reviewing
        The folder, and who decides.
    """

    def __init__(self, results: Results, reviewing: Reviewing) -> None:
        self._results = results
        self._reviewing = reviewing
        self._found: tuple[tuple[tuple[str, int], ...], Kinds] | None = None
        self._lock = threading.Lock()

    def kinds(self) -> Kinds:
        """Give them as the results are now."""
        folder = self._results.folder
        stamp = tuple((n, _changed(folder / n / "summary.json")) for n in result_names(folder))
        with self._lock:
            if self._found is None or self._found[0] != stamp:
                self._found = stamp, find_kinds(folder)
            return self._found[1]

    def page(self) -> str:
        """Write the page: a contact sheet for each kind."""
        kinds, reviewing = self.kinds(), self._reviewing
        decided = decided_in(reviewing.folder, kinds, reviewing.only)
        mine = decided_in(reviewing.folder, kinds, reviewing.reader)
        template = environment(TEMPLATES).get_template("viewer_kinds.html.j2")
        return str(
            template.render(
                reader=reviewing.reader,
                findings=findings_used(reviewing.folder, reviewing.only),
                mine=[_count(kind, mine) for kind in kinds.kinds],
                **sheets(kinds, decided),
            )
        )

    def decide(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Take a decision about all regions of a kind, one entry a region; or take it back.

        Regions that the reader has reviewed by themselves keep what was decided.

        Parameters
        ----------
        asked
            ``kind``, its name, and either ``undo``, or ``verdict``, ``finding`` and ``note``.

        Raises
        ------
        UsageError
            The request makes no sense, or results have been replaced meanwhile.
        OutputError
            It cannot be written; what was written stays, and the same key goes on with the rest.
        """
        kinds = self.kinds()
        named = [
            (i, kind) for i, kind in enumerate(kinds.kinds, 1) if kind.name == asked.get("kind")
        ]
        if not named:
            raise UsageError("The slides have been scored anew; open the page of kinds again.")
        number, kind = named[0]
        before = decided_in(self._reviewing.folder, kinds, self._reviewing.reader)
        written = kept = 0
        for region in kind.regions:
            there = before.get((region.folder, region.number), [])
            if asked.get("undo") is True:
                for review in there:
                    if review.kind == kind.name:
                        self._reviewing.withdraw(region.folder, review)
                        written += 1
                continue
            if any(not review.kind for review in there):
                kept += 1
                continue
            words = {key: asked.get(key, "") for key in ("verdict", "finding", "note")}
            place = {"result": region.result, "region": region.number - 1}
            summary = self._results.summary(region.folder)
            self._reviewing.decide(region.folder, summary, words | place, kind.name)
            written += 1
        decided = decided_in(self._reviewing.folder, kinds, self._reviewing.only)
        now = sheet(kind, number, decided)
        return {
            "written": written,
            "kept": kept,
            "mine": _count(kind, decided_in(self._reviewing.folder, kinds, self._reviewing.reader)),
            **{key: now[key] for key in ("title", "regions", "reviewed", "verdicts")},
        }


def _count(kind: Kind, decided: Mapping[tuple[str, int], object]) -> int:
    return sum((region.folder, region.number) in decided for region in kind.regions)


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
