"""Reviews in the viewer: what a reader has decided, and one decision more."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.reports.reviewed import bring_up_to_date
from wsi_anomaly.results.review_matching import (
    Agreement,
    agreement,
    match_reviews,
    reviewed_regions,
)
from wsi_anomaly.results.reviews import (
    FOLDER,
    VERDICTS,
    Review,
    append_review,
    check_reader,
    findings_used,
    last_made,
    read_reviews,
)
from wsi_anomaly.scoring import union_of_fields
from wsi_anomaly.viewer.opened import OpenResult, OpenResults
from wsi_anomaly.viewer.world import World

_MOST_READERS = 6


class ScoredAnewError(UsageError):
    """The result has been replaced since its page was opened."""


class Reviewing:
    """Reviews of one reader in a results folder.

    Parameters
    ----------
    folder
        Folder of results.
    reader
        Who decides.
    blinded
        Whether others' decisions, and findings that others named, are kept from the reader.
    opened
        Results that are shared with the pages.

    Raises
    ------
    UsageError
        The reader's name cannot be that of a file.
    """

    def __init__(
        self, folder: Path, reader: str, *, blinded: bool = False, opened: OpenResults | None = None
    ) -> None:
        self.folder = folder
        self.reader = check_reader(reader)
        self.blinded = blinded
        self.changed: set[str] = set()
        """Names of the slides whose worklist entry is older than their reviews."""
        self._results = opened or OpenResults()
        self._lock = threading.Lock()

    def state(self, name: str, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Everything that is known of a slide; JSON-ready."""
        world = World.of(summary)
        found = read_reviews(self.folder, _identity(summary), self.only)
        outlines = [r.outline for r in self._open(name, summary).regions]
        mine = match_reviews(found.of(self.reader), outlines)
        others = [reader for reader in found.readers if reader != self.reader][:_MOST_READERS]
        return {
            "reader": self.reader,
            "blinded": self.blinded,
            "verdicts": list(VERDICTS),
            "mine": {str(k): _shown(review) for k, review in mine.of_region.items()},
            "places": [
                _shown(review) | {"um": _middle(review, world), "where": where}
                for where, reviews in (
                    ("within a larger region", mine.within),
                    ("no longer flagged", [r for r in mine.elsewhere if r.region is not None]),
                    ("not flagged", [r for r in mine.elsewhere if r.region is None]),
                )
                for review in reviews
            ],
            "others": {
                reader: {
                    str(k): _shown(review)
                    for k, review in match_reviews(found.of(reader), outlines).of_region.items()
                }
                for reader in others
            },
            "findings": findings_used(self.folder, self.only),
            "problems": list(found.problems),
        }

    def decide(
        self, name: str, summary: Mapping[str, Any], asked: Mapping[str, Any], kind: str = ""
    ) -> dict[str, Any]:
        """Take a decision and say that it is on the disk; or take the last one back.

        Parameters
        ----------
        name, summary
            The slide.
        asked
            ``result``, the hash of what the reader looks at, and either ``undo``, or ``verdict``,
            ``finding``, ``note``, and ``region`` (from 0) or ``field`` (row, column).
        kind
            The kind of regions that is reviewed as one, if it is.

        Raises
        ------
        UsageError
            The request makes no sense, or the slide has been scored anew meanwhile.
        OutputError
            It cannot be written.
        """
        if asked.get("result") != summary["result_hash"]:
            raise ScoredAnewError("The slide has been scored anew; open its page again.")
        with self._lock:
            self.changed.add(name)
            if asked.get("undo") is True:
                return self._undo(name, summary)
            review = replace(self._review(name, summary, asked), kind=kind)
            append_review(self.folder, review)
        return {"saved": _shown(review) | {"um": _middle(review, World.of(summary))}}

    def _undo(self, name: str, summary: Mapping[str, Any]) -> dict[str, Any]:
        found = read_reviews(self.folder, _identity(summary), self.reader)
        last = last_made(found.entries.get(self.reader, ()))
        if last is None:
            raise UsageError("There is nothing to take back on this slide.")
        append_review(self.folder, last.withdrawal())
        here = last.result == summary["result_hash"] and last.region is not None
        return {
            "undone": _shown(last) | {"region": (last.region or 0) - 1 if here else None},
            "state": self.state(name, summary),
        }

    def withdraw(self, name: str, review: Review) -> None:
        """Take a decision of the reader about a slide back.

        Raises
        ------
        OutputError
            It cannot be written.
        """
        with self._lock:
            self.changed.add(name)
            append_review(self.folder, review.withdrawal())

    def _review(self, name: str, summary: Mapping[str, Any], asked: Mapping[str, Any]) -> Review:
        opened = self._open(name, summary)
        texts = {key: asked.get(key, "") for key in ("verdict", "finding", "note")}
        if not all(isinstance(text, str) for text in texts.values()):
            raise UsageError("A verdict, a finding and a note are texts.")
        made = _of_region if "region" in asked else _of_field
        return Review(
            self.reader, str(summary["slide"]["name"]), _identity(summary),
            **{key: text.strip() for key, text in texts.items()},
            **made(opened, asked.get("region", asked.get("field"))),
            model=str(summary["model"]["hash"]), result=str(summary["result_hash"]),
        )  # fmt: skip

    def count(self, name: str, summary: Mapping[str, Any]) -> int:
        """Count the regions of a slide that the reader has reviewed."""
        found = read_reviews(self.folder, _identity(summary), self.reader)
        return reviewed_regions(self.folder / name, summary, found, self.reader)

    def say_what_changed(self) -> None:
        """Bring worklist and reports up to date.

        Raises
        ------
        OutputError
            They cannot be written; the reviews are on the disk all the same.
        """
        with self._lock:
            changed, self.changed = self.changed, set()
        if changed:
            bring_up_to_date(self.folder, sorted(changed))

    def side_by_side(self) -> list[Agreement]:
        """Compare every two readers over all slides.

        Raises
        ------
        UsageError
            The reading is blinded, and goes on.
        """
        if self.blinded:
            raise UsageError(
                "This reading is blinded: readers are compared when it has been unblinded."
            )
        marks = {p.name.rpartition("-")[2] for p in (self.folder / FOLDER).glob("*-*")}
        slides = [read_reviews(self.folder, mark) for mark in sorted(marks)]
        readers = sorted({reader for slide in slides for reader in slide.readers})
        pairs = combinations(readers[:_MOST_READERS], 2)
        return [agreement(slides, first, second) for first, second in pairs]

    @property
    def only(self) -> str | None:
        """Whose decisions alone may be shown; None: everybody's."""
        return self.reader if self.blinded else None

    def _open(self, name: str, summary: Mapping[str, Any]) -> OpenResult:
        return self._results.get(self.folder / name, summary)


def _identity(summary: Mapping[str, Any]) -> str:
    return str(summary["slide"]["fingerprint"])


def _shown(review: Review) -> dict[str, Any]:
    return {name: getattr(review, name) for name in ("verdict", "finding", "note", "time")}


def _middle(review: Review, world: World) -> list[float]:
    point = review.outline.representative_point()
    um: list[float] = world.um(np.array([point.x, point.y])).tolist()
    return um


def _of_region(opened: OpenResult, number: Any) -> dict[str, Any]:
    if type(number) is not int or not 0 <= number < len(opened.regions):
        raise UsageError("There is no such region; open the page again.")
    region = opened.regions[number]
    return {
        "outline": region.outline,
        "region": number + 1,
        "score": region.highest,
        "measures": {
            "area_mm2": region.area_mm2,
            "fields": float(len(region.fields)),
            "mean_score": region.mean_score,
            "max_score": region.max_score,
        },
    }


def _of_field(opened: OpenResult, place: Any) -> dict[str, Any]:
    fields = opened.stored.fields
    if not (isinstance(place, list) and len(place) == 2 and all(type(v) is int for v in place)):
        raise UsageError("A field is given by its row and column.")
    here = np.flatnonzero((fields.row == place[0]) & (fields.col == place[1]))
    if not len(here):
        raise UsageError("There is no field; click on tissue.")
    score = float(opened.stored.score[here[0]])
    return {
        "outline": union_of_fields(fields, here),
        "measures": {"fields": 1.0} | ({"score": score} if np.isfinite(score) else {}),
    }
