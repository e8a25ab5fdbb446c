"""The result of a study by organ, group and animal, from the summaries of its slides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import isfinite, prod
from pathlib import Path
from statistics import median
from typing import Any

from wsi_anomaly.core.files import write_text
from wsi_anomaly.core.tables import table_text
from wsi_anomaly.reports.worklist_rows import Row, read_row
from wsi_anomaly.studies.permutation import against_controls, trend
from wsi_anomaly.studies.table import Cohort, CohortSlide


@dataclass(frozen=True)
class SlideResult:
    """A slide of the study and its row of the worklist; None when it was not scored."""

    slide: CohortSlide
    row: Row | None

    @property
    def counts(self) -> bool:
        """Whether its score says something: it has one, and the model had not seen the slide."""
        return (
            self.row is not None
            and self.row.slide_score is not None
            and not self.row.status.startswith("seen")
        )


@dataclass(frozen=True)
class AnimalResult:
    """Slides of one organ of one animal; its score is that of its most abnormal slide.

    None where no slide says anything; flags only where a slide could have been flagged.
    `flagged_by_chance` is how often an animal without any change shows one.
    """

    organ: str
    group: str
    animal: str
    slides: int
    scored: int
    score: float | None
    percentile: float | None
    flagged_regions: int | None
    flagged_mm2: float | None
    flagged_by_chance: float | None
    flaggable_tissue_mm2: float
    tissue_mm2: float
    not_assessed_mm2: float


@dataclass(frozen=True)
class GroupResult:
    """One organ of one group: a line of ``cohort.csv``.

    Attributes
    ----------
    animals, slides
        In the table of the study.
    animals_scored, slides_not_scored, slides_seen
        Animals with a score; slides without a result; slides the model had learned from, which
        count for nothing here.
    median_score, max_score
        Over animals, each with the score of its most abnormal slide.
    animals_flaggable, animals_flagged
        Animals of which a slide could have been flagged, and those with a flagged region.
    animals_flagged_by_chance
        How many of them chance flags, without an effect; None where no slide says it.
    flagged_regions_per_slide
        Over slides that could have been flagged.
    flagged_mm2_per_mm2
        Flagged area per area of tissue, over slides that could have been flagged.
    tissue_mm2, not_assessed_mm2
        Tissue found, and tissue that could not be judged.
    p_value, p_over_organs, trend_p_over_organs
        Of permutation tests by animal on these scores, one-sided: the group against the controls;
        the same corrected for the number of organs; the trend over the groups in the order of the
        table, corrected. None for controls, and where nothing can be said.
    """

    organ: str
    group: str
    is_control: bool
    animals: int
    animals_scored: int
    slides: int
    slides_not_scored: int
    slides_seen: int
    median_score: float | None
    max_score: float | None
    animals_flaggable: int
    animals_flagged: int
    animals_flagged_by_chance: float | None
    flagged_regions_per_slide: float | None
    flagged_mm2: float
    flagged_mm2_per_mm2: float | None
    tissue_mm2: float
    not_assessed_mm2: float
    p_value: float | None = None
    p_over_organs: float | None = None
    trend_p_over_organs: float | None = None


def slide_results(cohort: Cohort, folders: Mapping[Path, Path]) -> list[SlideResult]:
    """Read what has become of each slide of a study.

    Parameters
    ----------
    cohort
        The study.
    folders
        Results folder of each slide that was scored; the others have no result.
    """
    return [
        SlideResult(s, read_row(folders[s.path]) if s.path in folders else None)
        for s in cohort.slides
    ]


def by_animal(results: Sequence[SlideResult]) -> list[AnimalResult]:
    """Join the slides of each animal and organ."""
    parts: dict[tuple[str, str], list[SlideResult]] = {}
    for result in results:
        parts.setdefault((result.slide.organ, result.slide.animal), []).append(result)
    return [_animal(part) for part in parts.values()]


def _animal(results: list[SlideResult]) -> AnimalResult:
    first = results[0].slide
    rows = [r.row for r in results if r.row is not None]
    counted = [r.row for r in results if r.row is not None and r.counts]
    flaggable = [r for r in counted if r.can_flag]
    top = max(counted, key=lambda r: r.slide_score or 0.0, default=None)
    return AnimalResult(
        organ=first.organ,
        group=first.group,
        animal=first.animal,
        slides=len(results),
        scored=len(counted),
        score=None if top is None else top.slide_score,
        percentile=None if top is None else top.slide_percentile,
        flagged_regions=sum(r.regions or 0 for r in flaggable) if flaggable else None,
        flagged_mm2=sum(r.flagged_mm2 or 0.0 for r in flaggable) if flaggable else None,
        flagged_by_chance=_by_chance(flaggable),
        flaggable_tissue_mm2=sum(r.tissue_mm2 or 0.0 for r in flaggable),
        tissue_mm2=sum(r.tissue_mm2 or 0.0 for r in rows),
        not_assessed_mm2=sum(r.not_assessed_mm2 or 0.0 for r in rows),
    )


def _by_chance(slides: Sequence[Row]) -> float | None:
    """How often at least one of these slides is flagged, were all of them normal."""
    shares = [r.normal_slides_with_flags for r in slides if r.normal_slides_with_flags is not None]
    if not shares or len(shares) < len(slides):
        return None
    return 1.0 - prod(1.0 - min(1.0, share) for share in shares)


def by_group(cohort: Cohort, results: Sequence[SlideResult]) -> list[GroupResult]:
    """Join the animals of each organ and group; controls come first."""
    animals = by_animal(results)
    out = []
    for organ in cohort.organs:
        for group in cohort.groups:
            here = [a for a in animals if (a.organ, a.group) == (organ, group)]
            slides = [r for r in results if (r.slide.organ, r.slide.group) == (organ, group)]
            if here:
                out.append(_group(organ, group, group == cohort.control, here, slides))
    return _with_tests(cohort, animals, out)


def _with_tests(
    cohort: Cohort, animals: Sequence[AnimalResult], groups: Sequence[GroupResult]
) -> list[GroupResult]:
    """Add what permutation tests say of each group."""
    scores: dict[str, dict[str, float]] = {organ: {} for organ in cohort.organs}
    members: dict[str, list[str]] = {group: [] for group in cohort.groups}
    for a in animals:
        if a.score is not None:
            scores[a.organ][a.animal] = a.score
            if a.animal not in members[a.group]:
                members[a.group].append(a.animal)
    controls = members[cohort.control]
    beside = {g: against_controls(scores, controls, members[g]) for g in cohort.groups[1:]}
    rising = trend(scores, [members[g] for g in cohort.groups])
    return [
        row
        if row.is_control
        else replace(
            row,
            p_value=_known(beside[row.group].p_value[row.organ]),
            p_over_organs=_known(beside[row.group].over_organs[row.organ]),
            trend_p_over_organs=_known(rising.over_organs[row.organ]),
        )
        for row in groups
    ]


def _known(value: float) -> float | None:
    return value if isfinite(value) else None


def _group(
    organ: str,
    group: str,
    is_control: bool,
    animals: list[AnimalResult],
    slides: list[SlideResult],
) -> GroupResult:
    scores = [a.score for a in animals if a.score is not None]
    flaggable = [a for a in animals if a.flagged_regions is not None]
    flagged = sum(a.flagged_mm2 or 0.0 for a in flaggable)
    able = sum(r.row is not None and r.counts and r.row.can_flag for r in slides)
    tissue = sum(a.flaggable_tissue_mm2 for a in flaggable)
    chances = [a.flagged_by_chance for a in flaggable if a.flagged_by_chance is not None]
    return GroupResult(
        organ=organ,
        group=group,
        is_control=is_control,
        animals=len(animals),
        animals_scored=len(scores),
        slides=len(slides),
        slides_not_scored=sum(r.row is None for r in slides),
        slides_seen=sum(r.row is not None and r.row.status.startswith("seen") for r in slides),
        median_score=median(scores) if scores else None,
        max_score=max(scores, default=None),
        animals_flaggable=len(flaggable),
        animals_flagged=sum(bool(a.flagged_regions) for a in flaggable),
        animals_flagged_by_chance=sum(chances)
        if chances and len(chances) == len(flaggable)
        else None,
        flagged_regions_per_slide=sum(a.flagged_regions or 0 for a in flaggable) / able
        if able
        else None,
        flagged_mm2=flagged,
        flagged_mm2_per_mm2=flagged / tissue if tissue else None,
        tissue_mm2=sum(a.tissue_mm2 for a in animals),
        not_assessed_mm2=sum(a.not_assessed_mm2 for a in animals),
    )


def write_tables(
    results: Path, groups: Sequence[GroupResult], animals: Sequence[AnimalResult]
) -> None:
    """Write ``cohort.csv`` (a line a group and organ) and ``cohort_animals.csv``.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    write_text(results / "cohort.csv", _table(GroupResult, groups))
    write_text(results / "cohort_animals.csv", _table(AnimalResult, animals))


def _table(kind: type[Any], rows: Sequence[Any]) -> str:
    names = [f.name for f in fields(kind)]
    return table_text(names, ([getattr(row, name) for name in names] for row in rows))
