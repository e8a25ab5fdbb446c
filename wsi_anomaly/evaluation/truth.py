"""What is known of the slides: which fields are abnormal, which slides, where the lesions lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from wsi_anomaly.annotations import Outline, fractions_inside, read_outlines
from wsi_anomaly.annotations.outlines import Note
from wsi_anomaly.core.errors import AnnotationError, UsageError, WsiAnomalyError
from wsi_anomaly.evaluation.folders import Result
from wsi_anomaly.evaluation.labels import ABNORMAL, IGNORED, NORMAL, label_fields
from wsi_anomaly.evaluation.tables import LabelTable
from wsi_anomaly.tiles.inputs import check_files, find_file

_ROUNDING_PX = 1.5  # corners that other programs have rounded in another way


@dataclass(frozen=True, eq=False)
class SlideTruth:
    """What is known of one slide.

    Attributes
    ----------
    fields
        (N,) label of each field of its result: 1, 0 or -1 (not known, or on the border).
    abnormal
        Whether the slide is abnormal; None when that is not known.
    lesions
        Outlines of all its lesions, level-0 pixels; None when they are not known.
    """

    fields: NDArray[np.int8]
    abnormal: bool | None
    lesions: list[Polygon | MultiPolygon] | None


@dataclass(frozen=True, eq=False)
class Truth:
    """Where the truth comes from.

    Attributes
    ----------
    labels
        Labels of slides or of fields.
    annotations
        A folder of outlines or mask images named as the slides, or the one file of one slide.
    classes
        Classes of outlines that are abnormal; none: all but ``normal``.
    unannotated_normal
        Whether a slide without an annotation file is normal.
    labels_found
        The classes of the outlines that have been read.
    """

    labels: LabelTable | None = None
    annotations: Path | None = None
    classes: tuple[str, ...] = ()
    unannotated_normal: bool = False
    labels_found: set[str] = field(default_factory=set)

    def check(self, results: Sequence[Result]) -> None:
        """See that it can be the truth of these slides.

        Raises
        ------
        UsageError
            There is none, or it is of other slides.
        """
        labels, place = self.labels, self.annotations
        if labels is None and place is None:
            raise UsageError("There is nothing to compare with; give --labels or --annotations.")
        if place is None and (self.classes or self.unannotated_normal):
            raise UsageError(
                "--class and --unannotated-normal say how to read outlines; give --annotations."
            )
        if place is not None:
            check_files("--annotations", place, [result.slide_path for result in results])
        if place is not None and labels is not None and labels.fields:
            raise UsageError(
                f"{labels.path} and {place} both say which fields are abnormal; give one of them."
            )
        if place is not None and not any(find_file(place, result.slide_path) for result in results):
            raise UsageError(
                f"{place} has no file for any of the slides (such as "
                f"{results[0].slide_path.stem}.geojson); name the files as the slides."
            )

    def of(self, result: Result, note: Note = lambda _text: None) -> SlideTruth | None:
        """Find what is known of a slide; None when nothing is.

        `note` is told which outlines do not count.

        Raises
        ------
        WsiAnomalyError
            Its labels or outlines cannot be used; the sentence says why.
        """
        label = None if self.labels is None else self.labels.slides.get(result.name)
        corners = None if self.labels is None else self.labels.fields.get(result.name)
        if corners is not None and self.labels is not None:
            return _from_fields(result, self.labels.path, *corners)
        outlines = self._outlines(result, note)
        if outlines is None and (label == NORMAL or (label is None and self.unannotated_normal)):
            outlines = []
        if outlines is not None:
            if label == NORMAL and outlines and self.labels is not None:
                raise AnnotationError(
                    f"{self.labels.path} calls {result.slide_path.name} normal, but its annotation "
                    f"file in {self.annotations} holds outlines; mend one of the two."
                )
            return _from_outlines(result, outlines, abnormal=label == ABNORMAL)
        if label is None:
            return None
        unknown = np.full(len(result.table.coords), IGNORED, np.int8)
        return SlideTruth(unknown, abnormal=True, lesions=None)

    def _outlines(self, result: Result, note: Note) -> list[Outline] | None:
        """Outlines of what is abnormal in a slide's own file; None without such."""
        place = self.annotations
        path = None if place is None else find_file(place, result.slide_path)
        if path is None:
            return None
        found = read_outlines(path, result.extent, note=note)
        self.labels_found.update(outline.label for outline in found)
        if not self.classes or not found:
            return [outline for outline in found if not outline.is_normal]
        chosen = [outline for outline in found if outline.label in self.classes]
        if not chosen and not any(outline.label for outline in found):
            raise AnnotationError(
                f"The annotations in {path} have no class; leave --class out, or set it in QuPath."
            )
        nameless = sum(not outline.label for outline in found)
        if nameless:
            note(
                f"{path}: {nameless} of {len(found)} outlines have no class and do not count as "
                "abnormal."
            )
        return chosen


def _from_outlines(result: Result, outlines: list[Outline], *, abnormal: bool) -> SlideTruth:
    if abnormal and not outlines:
        # Known to be abnormal, not where: silence must not make its fields normal.
        unknown = np.full(len(result.table.coords), IGNORED, np.int8)
        return SlideTruth(unknown, abnormal=True, lesions=None)
    inside = fractions_inside(outlines, result.table.coords, result.table.field)
    return SlideTruth(
        label_fields(inside), bool(outlines), [outline.polygon for outline in outlines]
    )


def _from_fields(
    result: Result, path: Path, corners: NDArray[np.float64], labels: NDArray[np.int8]
) -> SlideTruth:
    """Labels of the fields whose corners the table gives."""
    from scipy.spatial import KDTree

    fields = np.full(len(result.table.coords), IGNORED, np.int8)
    if len(fields):
        distance, place = KDTree(result.table.coords).query(corners, p=np.inf)
        near = distance <= _ROUNDING_PX
        fields[place[near]] = labels[near]
    if (fields == IGNORED).all():
        raise WsiAnomalyError(
            f"{path} has {len(labels)} labels of {result.slide_path.name}, none of them at a field "
            "of its result; x and y are the top left corners of the very fields that were scored, "
            "in pixels of the full resolution."
        )
    assessed = fields[result.table.assessed]
    known = bool((assessed == NORMAL).all()) if len(assessed) else False
    return SlideTruth(
        fields,
        abnormal=True if (labels == ABNORMAL).any() else (False if known else None),
        lesions=None,
    )


def merged_lesions(
    lesions: Sequence[Polygon | MultiPolygon], mpp: tuple[float, float], apart_um: float
) -> list[Polygon | MultiPolygon]:
    """Join lesions that lie nearer to one another than `apart_um`; level-0 pixels."""
    if not lesions:
        return []
    parts = shapely.get_parts(shapely.union_all(lesions))
    reach = apart_um / 2 / float(np.sqrt(mpp[0] * mpp[1]))
    wide = shapely.get_parts(shapely.union_all(shapely.buffer(parts, reach)))
    which = shapely.STRtree(wide).query(parts, predicate="intersects")
    out: list[Polygon | MultiPolygon] = []
    for number in range(len(wide)):
        own = parts[which[0][which[1] == number]]
        out.append(own[0] if len(own) == 1 else MultiPolygon(list(own)))
    return out
