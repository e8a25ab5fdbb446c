"""Options of ``evaluate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from wsi_anomaly.core.errors import UsageError


@dataclass(frozen=True)
class EvaluateOptions:
    """Everything that ``evaluate`` may be asked for.

    Attributes
    ----------
    annotations
        Folder of outlines or masks named as the slides, or the one file of one slide.
    classes
        Classes of outlines that are abnormal; none: all.
    unannotated_normal
        Take slides without an annotation file for normal.
    labels
        CSV of ``slide,label`` or ``slide,x,y,label``.
    scores
        In place of results: a CSV with the columns ``score``, ``label`` and, if there is one,
        ``slide``.
    cases
        Patient or animal by slide: a table of ``slide,case``, or a mapping; intervals are over
        cases. By default every slide is a case of its own.
    method
        The method to look at closely; None: the one that ranks.
    specificities
        At which the sensitivity is asked for.
    slides
        Where the slides lie now, if they are not where they were scored.
    """

    annotations: str | Path | None = None
    classes: Sequence[str] = ()
    unannotated_normal: bool = False
    labels: str | Path | None = None
    scores: str | Path | None = None
    cases: str | Path | Mapping[str, str] | None = None
    method: str | None = None
    specificities: Sequence[float] = (0.9, 0.95, 0.99)
    slides: str | Path | None = None

    def __post_init__(self) -> None:
        about_results = (
            self.annotations, self.classes, self.unannotated_normal, self.labels, self.cases,
            self.method,
        )  # fmt: skip
        if self.scores is not None and any(about_results):
            raise UsageError(
                "--scores brings its own labels; leave out RESULTS and the options about them."
            )
        if not all(0 <= s <= 1 for s in self.specificities):
            raise UsageError("A specificity lies between 0 and 1.")


class EvaluateKeywords(TypedDict, total=False):
    """The fields of :class:`EvaluateOptions`, for callers that name them one by one."""

    annotations: str | Path | None
    classes: Sequence[str]
    unannotated_normal: bool
    labels: str | Path | None
    scores: str | Path | None
    cases: str | Path | Mapping[str, str] | None
    method: str | None
    specificities: Sequence[float]
    slides: str | Path | None
