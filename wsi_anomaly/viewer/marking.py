"""Normal tissue in the viewer: what is marked on a slide, one mark more, or one less."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from wsi_anomaly.core.errors import AnnotationError, UsageError, WsiAnomalyError
from wsi_anomaly.results.drawn_marks import checked_kind, drawn_area, tissue_by_kind
from wsi_anomaly.results.marks import (
    Mark,
    add_mark,
    extent_of,
    kinds_used,
    marks_file,
    read_marks,
    remove_mark,
)
from wsi_anomaly.results.reviews import read_reviews
from wsi_anomaly.scoring import LEAST_CELLS
from wsi_anomaly.tiles.inputs import identity
from wsi_anomaly.viewer.folder import NotHereError, Results
from wsi_anomaly.viewer.reviewing import ScoredAnewError
from wsi_anomaly.viewer.scoring_again import blanks, command_for
from wsi_anomaly.viewer.world import World


class Marking:
    """Marked normal tissue of the slides of a results folder.

    Parameters
    ----------
    results
        What is shown.
    reader
        Who marks; empty: nobody, marks are only shown.
    """

    def __init__(self, results: Results, reader: str = "") -> None:
        self._results = results
        self._reader = reader

    def state(self, name: str) -> dict[str, Any]:
        """Everything that is known of a slide's marks; JSON-ready."""
        summary = self._results.summary(name)
        world, why_not = World.of(summary), self._why_not(summary)
        marks: list[Mark] = []
        problem = ""
        try:
            file = self._file(summary)
            marks = read_marks(file, extent_of(summary))
        except AnnotationError as error:
            file, problem = None, str(error)
        opened = self._results.opened.get(self._results.folder / name, summary)
        cell_mm2 = opened.stored.fields.area_mm2(opened.stored.mpp)
        return {
            "why_not": problem or why_not,
            "problem": problem,
            "marks": [self._shown(mark, world) for mark in marks],
            "kinds": kinds_used(self._results.folder),
            "tissue": [
                {"kind": kind, "mm2": mm2, "enough": enough}
                for kind, (mm2, enough) in tissue_by_kind(marks, opened.stored).items()
            ],
            "least_mm2": LEAST_CELLS * cell_mm2,
            "doubts": _doubts(marks, self._abnormal(summary)),
            **self._again(summary, file, marked=bool(marks)),
        }

    def change(self, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Add a mark or take one away, and say how things stand once that is on the disk.

        Parameters
        ----------
        name
            The slide.
        asked
            ``result``, the hash of what the reader looks at, and either ``remove``, a mark's id, or
            ``kind`` and ``points``, corners (x, y) in the coordinates of the page.

        Raises
        ------
        UsageError
            Nothing can be marked here, or the request makes no sense.
        AnnotationError, OutputError
            The slide's file of marks cannot be used, or not be written.
        """
        summary = self._results.summary(name)
        if asked.get("result") != summary["result_hash"]:
            raise ScoredAnewError("The slide has been scored anew; open its page again.")
        if why_not := self._why_not(summary):
            raise UsageError(why_not)
        folder, extent, file = self._results.folder, extent_of(summary), self._file(summary)
        shown_as = str(summary["slide"]["name"])
        if "remove" in asked:
            mark = remove_mark(folder, file, extent, shown_as, str(asked["remove"]), self._reader)
        else:
            mark = self._drawn(summary, asked)
            add_mark(folder, file, extent, shown_as, mark)
        return self.state(name) | {"changed": self._shown(mark, World.of(summary))}

    def _drawn(self, summary: Mapping[str, Any], asked: Mapping[str, Any]) -> Mark:
        kind, points = asked.get("kind"), asked.get("points")
        if not isinstance(kind, str) or not isinstance(points, list):
            raise UsageError("A mark has a kind and points; open the page again.")
        try:
            um = np.array(points, float).reshape(-1, 2)
        except (ValueError, TypeError):
            um = np.full((3, 2), np.nan)
        if not np.isfinite(um).all() or (np.abs(um) > 1e9).any():
            raise UsageError("The points of a mark are pairs of numbers; open the page again.")
        world = World.of(summary)
        corners = [(float(x), float(y)) for x, y in world.level0(um)]
        area = drawn_area(corners, extent_of(summary), world.mpp_x * world.mpp_y)
        return Mark(checked_kind(kind, kinds_used(self._results.folder)), area, self._reader)

    def _why_not(self, summary: Mapping[str, Any]) -> str:
        """Say why nothing can be marked on a slide; empty if it can."""
        model, folder = summary["model"], self._results.folder
        if summary["settings"].get("controls"):
            return "A study is compared with its control animals; nothing is marked there."
        if summary["slide"].get("backend") == "embeddings":
            return "The slide was scored by embeddings, with which marked tissue does not go."
        if model.get("takes_marks") is False:
            return (
                f"The model {model.get('name')} cannot take marked tissue: that needs density by "
                "the estimator contrast, which train learns by default."
            )
        if not self._reader:
            return "Start the viewer with --reader NAME to mark normal tissue."
        if not os.access(folder, os.W_OK):
            return f"{folder} cannot be written to, so nothing can be marked."
        return ""

    def _file(self, summary: Mapping[str, Any]) -> Path:
        others = self._results.slides()
        scored_at = Path(str(summary["slide"]["path"]))
        slide = self._path(summary)
        return marks_file(
            self._results.folder, slide, [o for o in others if o not in (scored_at, slide)]
        )

    def _path(self, summary: Mapping[str, Any]) -> Path:
        """Where the slide lies, or lay when it was scored: marks can be read without it."""
        try:
            return self._results.slide_path(summary)
        except NotHereError:
            return Path(str(summary["slide"]["path"]))

    def _abnormal(self, summary: Mapping[str, Any]) -> list[tuple[str, shapely.Geometry]]:
        """Who has called what abnormal on a slide."""
        try:
            found = read_reviews(self._results.folder, str(summary["slide"]["fingerprint"]))
        except WsiAnomalyError:
            return []  # the part of the page that shows reviews says so
        return [
            (reader, review.outline)
            for reader in found.readers
            for review in found.of(reader)
            if review.verdict == "abnormal"
        ]

    def _again(
        self, summary: Mapping[str, Any], file: Path | None, *, marked: bool
    ) -> dict[str, Any]:
        """Say whether the scores know the marks, and how to score again if they do not."""
        scored_with = summary["settings"].get("normal")
        now = identity(file, summary["qupath_origin"]) if marked and file is not None else None
        if file is None or now == scored_with:
            return {"scored": scored_with is not None, "command": "", "blanks": ""}
        command = command_for(self._results.folder, self._path(summary), summary, marked=marked)
        return {"scored": False, "command": command, "blanks": blanks(command)}

    def _shown(self, mark: Mark, world: World) -> dict[str, Any]:
        parts = shapely.get_parts(mark.outline)
        rings = [
            [world.um(np.asarray(ring.coords)) for ring in (part.exterior, *part.interiors)]
            for part in parts
        ]
        middle = max(parts, key=lambda part: part.area).representative_point()
        return {
            "id": mark.id,
            "kind": mark.kind,
            "reader": mark.reader,
            "time": mark.time,
            "mine": bool(self._reader) and mark.reader == self._reader,
            "mm2": mark.outline.area * world.mpp_x * world.mpp_y / 1e6,
            "um": world.um(np.array([middle.x, middle.y])).tolist(),
            "xs": [[ring[:, 0].tolist() for ring in part] for part in rings],
            "ys": [[ring[:, 1].tolist() for ring in part] for part in rings],
        }


def _doubts(marks: Sequence[Mark], abnormal: Sequence[tuple[str, shapely.Geometry]]) -> list[str]:
    """Say where what is marked as normal was called abnormal."""
    return [
        f"{mark.kind or 'A mark'} lies on what {reader} has called abnormal: what is like it will "
        "score lower."
        for mark in marks
        for reader in sorted({r for r, outline in abnormal if outline.intersects(mark.outline)})
    ]
