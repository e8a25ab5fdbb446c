"""``cohort.html``: a study by organ and group, one point an animal, one picture a slide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from wsi_anomaly.core.files import write_text
from wsi_anomaly.core.wording import counted
from wsi_anomaly.options import ScoreOptions
from wsi_anomaly.reports.charts import round_ticks
from wsi_anomaly.reports.report import environment
from wsi_anomaly.reports.worklist import COHORT_PAGE
from wsi_anomaly.studies.groups import (
    AnimalResult,
    GroupResult,
    SlideResult,
    by_animal,
    by_group,
    slide_results,
    write_tables,
)
from wsi_anomaly.studies.permutation import least_p
from wsi_anomaly.studies.table import Cohort

_WIDTH, _HEIGHT = 460.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 6.0, 18.0, 46.0
_POINT = 5.0  # radius
_MOST_COLUMN = 140.0  # groups stay together when they are few


@dataclass(frozen=True)
class Point:
    """An animal in the chart."""

    x: float
    y: float
    flagged: bool
    title: str


@dataclass(frozen=True)
class Column:
    """A group in the chart; `middle` is the height of its median."""

    x: float
    half: float
    label: str
    count: str
    middle: float | None
    points: list[Point]


@dataclass(frozen=True)
class Chart:
    """Scores by group: geometry for the template.

    Attributes
    ----------
    columns
        Groups, controls first.
    ticks
        Heights and labels of the score axis.
    threshold
        Height of the operating point of treated slides, or None.
    """

    columns: list[Column]
    ticks: list[tuple[float, str]]
    threshold: float | None
    left: float = _LEFT
    base: float = _HEIGHT - _BOTTOM
    width: float = _WIDTH
    height: float = _HEIGHT


def chart(
    groups: Sequence[GroupResult], animals: Sequence[AnimalResult], threshold: float | None
) -> Chart | None:
    """Draw up one organ; None when no animal has a score."""
    known = [a for a in animals if a.score is not None]
    values = [a.score for a in known if a.score is not None]
    if not values:
        return None
    values += [] if threshold is None else [threshold]
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 1e-3 * max(1.0, abs(low))
    low, high = low - room, high + room

    def py(value: float) -> float:
        inner = _HEIGHT - _TOP - _BOTTOM
        return round(_HEIGHT - _BOTTOM - (value - low) / (high - low) * inner, 1)

    step = min((_WIDTH - _LEFT - _RIGHT) / len(groups), _MOST_COLUMN)
    columns = []
    for i, group in enumerate(groups):
        here = sorted(
            ((py(a.score), a) for a in known if a.group == group.group and a.score is not None),
            key=lambda entry: entry[0],
        )
        x = _LEFT + (i + 0.5) * step
        offsets = spread([y for y, _ in here], step / 2 - _POINT - 2)
        columns.append(
            Column(
                round(x, 1),
                round(0.36 * step, 1),
                group.group if len(group.group) < 19 else group.group[:17] + "…",
                counted(len(here), "animal"),
                None if not here else round(median(y for y, _ in here), 1),
                [
                    Point(round(x + dx, 1), y, bool(a.flagged_regions), _title(a))
                    for dx, (y, a) in zip(offsets, here, strict=True)
                ],
            )
        )
    ticks = [(py(value), label) for value, label in round_ticks(low, high, 6)]
    return Chart(columns, ticks, None if threshold is None else py(threshold))


def spread(heights: Sequence[float], most: float) -> list[float]:
    """Move points sideways so that they do not cover each other; where room is short, not wholly.

    Parameters
    ----------
    heights
        Ascending.
    most
        Largest distance from the middle.
    """
    placed: list[tuple[float, float]] = []
    for y in heights:
        near = [x for x, other in placed if abs(other - y) < 2 * _POINT]
        free = (
            gap * k * sign
            for gap in (2 * _POINT, _POINT, _POINT / 2)
            for k in range(int(most // gap) + 1)
            for sign in (1, -1)
            if all(abs(gap * k * sign - n) >= gap for n in near)
        )
        placed.append((next(free, 0.0), y))
    return [x for x, _ in placed]


def _title(animal: AnimalResult) -> str:
    flags = animal.flagged_regions
    return f"{animal.animal}: {animal.score:.4g}" + (
        "" if flags is None else f", {counted(flags, 'flagged region')}"
    )


@dataclass(frozen=True)
class Organ:
    """One organ of the page."""

    name: str
    groups: list[GroupResult]
    chart: Chart | None
    slides: dict[str, list[SlideResult]]
    model: str
    reference: str
    notes: list[str]
    trend: float | None
    least: float | None


def write_cohort(
    results: str | Path,
    cohort: Cohort,
    folders: Mapping[Path, Path],
    *,
    table: Path,
    models: Mapping[str, str],
    options: ScoreOptions,
) -> Path:
    """Write ``cohort.html``, ``cohort.csv`` and ``cohort_animals.csv``.

    Parameters
    ----------
    results
        Folder of results.
    cohort
        The study.
    folders
        Results folder of each slide that was scored.
    table
        The study's CSV file, for its name.
    models
        Name of the model of each organ.
    options
        With which the slides were scored.

    Returns
    -------
    pathlib.Path
        ``cohort.html``.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    results = Path(results)
    slides = slide_results(cohort, folders)
    groups, animals = by_group(cohort, slides), by_animal(slides)
    write_tables(results, groups, animals)
    organs = [
        _organ(
            organ,
            cohort,
            [g for g in groups if g.organ == organ],
            [a for a in animals if a.organ == organ],
            [s for s in slides if s.slide.organ == organ],
            models[organ],
        )
        for organ in cohort.organs
    ]
    page = (
        environment(Path(__file__).parent / "templates")
        .get_template("cohort.html.j2")
        .render(
            table=table.name,
            organs=organs,
            control=cohort.control,
            count=len(slides),
            animals=len({s.animal for s in cohort.slides}),
            groups=cohort.groups,
            promise=_promise(options),
        )
    )
    write_text(results / COHORT_PAGE, page)
    return results / COHORT_PAGE


def _promise(options: ScoreOptions) -> str:
    if options.fdr is not None:
        return f"Fields were flagged by Benjamini-Hochberg at {options.fdr:g}."
    few = options.false_regions
    return (
        f"By calibration a normal slide shows at most {few:g} flagged region"
        f"{'' if few == 1 else 's'} on average: compare each group with the controls, and with "
        "what chance gives, not with none."
    )


def _organ(
    name: str,
    cohort: Cohort,
    groups: list[GroupResult],
    animals: list[AnimalResult],
    slides: list[SlideResult],
    model: str,
) -> Organ:
    treated = [s.row for s in slides if s.row is not None and not cohort.is_control(s.slide)]
    thresholds = [r.threshold for r in treated if r.threshold is not None]
    references = Counter(r.reference for r in treated if r.reference)
    threshold = median(thresholds) if thresholds else None
    by_score = sorted(slides, key=_score, reverse=True)
    return Organ(
        name,
        groups,
        chart(groups, animals, threshold),
        {g.group: [s for s in by_score if s.slide.group == g.group] for g in groups},
        model,
        references.most_common(1)[0][0] if references else "",
        _notes(groups),
        next((g.trend_p_over_organs for g in groups if not g.is_control), None),
        _least(groups),
    )


def _least(groups: Sequence[GroupResult]) -> float | None:
    """Smallest p-value that the largest group can give beside the controls."""
    control = sum(g.animals_scored for g in groups if g.is_control)
    most = max((g.animals_scored for g in groups if not g.is_control), default=0)
    return least_p(control, most) if control and most else None


def _score(slide: SlideResult) -> float:
    score = None if slide.row is None else slide.row.slide_score
    return float("-inf") if score is None else score


def _notes(groups: Sequence[GroupResult]) -> list[str]:
    """Say what a reader would otherwise take for a result."""
    lost = sum(g.slides_not_scored for g in groups)
    seen = sum(g.slides_seen for g in groups)
    control = next((g for g in groups if g.is_control), None)
    out = []
    if lost:
        out.append(
            f"{counted(lost, 'slide')} could not be scored and count"
            f"{'s' if lost == 1 else ''} for nothing here."
        )
    if seen:
        out.append(
            f"The model has learned from {seen} of these slides; they count for nothing here."
        )
    if not any(g.animals_flaggable for g in groups if not g.is_control):
        out.append("No region could be flagged: too few control animals can be compared with.")
    elif control is not None and control.animals_scored and not control.animals_flaggable:
        out.append(
            "Control slides got no flags: with its own animal left out, too few others remain."
        )
    return out
