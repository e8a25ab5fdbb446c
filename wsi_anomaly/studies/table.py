"""The table of a toxicologic study: whose slide it is, in which group, of which organ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.slide_names import Entry, match
from wsi_anomaly.core.tables import Row, read_table
from wsi_anomaly.slides.manifest import Manifest

COLUMNS = ("slide", "animal", "group", "organ")
ONE_ORGAN = "all slides"
"""What the organ of a manifest without such a column is called."""
CONTROL_NAMES = ("control", "controls", "0", "vehicle")
"""Names, in any case, by which the control group is recognised."""


@dataclass(frozen=True)
class CohortSlide:
    """One line of the table, with the slide that it means."""

    path: Path
    animal: str
    group: str
    organ: str


@dataclass(frozen=True)
class Cohort:
    """A study.

    Attributes
    ----------
    slides
        In the order of the table.
    control
        Name of the control group.
    """

    slides: tuple[CohortSlide, ...]
    control: str

    @property
    def organs(self) -> list[str]:
        """In the order of the table."""
        return list(dict.fromkeys(s.organ for s in self.slides))

    @property
    def groups(self) -> list[str]:
        """Controls first, then in the order of the table."""
        return list(dict.fromkeys([self.control, *(s.group for s in self.slides)]))

    def of_organ(self, organ: str) -> list[CohortSlide]:
        """Slides of one organ."""
        return [s for s in self.slides if s.organ == organ]

    def is_control(self, slide: CohortSlide) -> bool:
        """Whether it is a slide of a control animal."""
        return slide.group == self.control


def read_cohort(path: Path, slides: Sequence[Path], control: str | None = None) -> Cohort:
    """Read the table of a study and find its slides among those given.

    Parameters
    ----------
    path
        Table with the columns slide, animal, group, organ, in any order; its names mean slides as
        :mod:`~wsi_anomaly.core.slide_names` says.
    slides
        The slides to be scored: each stands in the table once, and no other does.
    control
        Name of the control group; by default the one that is called so.

    Raises
    ------
    UsageError
        The table cannot be read, contradicts itself, or does not fit the slides.
    """
    rows = read_table(path, COLUMNS)
    if len(rows[0].layout.columns) > len(COLUMNS):
        raise UsageError(
            f"{path} has the columns {','.join(rows[0].layout.columns)}, of which a study takes "
            f"{','.join(COLUMNS)} alone; remove the others."
        )
    # Rows differ by their lines, so that a second one of a slide is refused whatever it says.
    matched = match(path, [Entry(row["slide"], row, row.line) for row in rows], slides)
    if matched.unknown:
        raise UsageError(
            f"{path} names the slide {matched.unknown[0]}, which is not among the slides given; "
            "give it too, or remove its line."
        )
    found = matched.by(slides)
    for slide in slides:
        if slide not in found:
            raise UsageError(f"{slide} is not in {path}; add a line for it, or leave it out.")
    in_order = sorted(found.items(), key=lambda item: item[1].line)
    return _cohort(
        path,
        [(CohortSlide(p, r["animal"], r["group"], r["organ"]), r) for p, r in in_order],
        control,
    )


def cohort_of(manifest: Manifest, control: str | None = None) -> Cohort:
    """Take a manifest for the table of a study: a case is an animal, one organ needs no name.

    Raises
    ------
    UsageError
        A slide lacks its case or group, or the table contradicts itself.
    """
    organs = manifest.has("organ")
    slides = []
    for path, row in manifest.rows.items():
        for column in ("case", "group", *(("organ",) if organs else ())):
            if not row.get(column):
                raise row.error(f"lacks the {column}, which a study needs of every slide")
        organ = row["organ"] if organs else ONE_ORGAN
        slides.append((CohortSlide(path, row["case"], row["group"], organ), row))
    return _cohort(manifest.path, slides, control)


def _cohort(path: Path, slides: Sequence[tuple[CohortSlide, Row]], control: str | None) -> Cohort:
    groups: dict[str, str] = {}
    for slide, row in slides:
        animal, group = slide.animal, slide.group
        if groups.setdefault(animal, group) != group:
            raise row.error(
                f"has animal {animal} in the groups {groups[animal]} and {group}; an animal "
                "belongs to one"
            )
    chosen = _control(path, list(dict.fromkeys(groups.values())), control)
    cohort = Cohort(tuple(slide for slide, _ in slides), chosen)
    for organ in cohort.organs:
        if not any(cohort.is_control(s) for s in cohort.of_organ(organ)):
            raise UsageError(
                f"{path} has no {organ} of the control group {chosen}; add control slides of "
                "it, or leave the organ out."
            )
    return cohort


def _control(path: Path, groups: list[str], control: str | None) -> str:
    listed = ", ".join(groups)
    if control is not None:
        if control not in groups:
            raise UsageError(
                f"{path} has no group {control}, only {listed}; give one of them as --control."
            )
        return control
    named = [g for g in groups if g.lower() in CONTROL_NAMES]
    if len(named) != 1:
        raise UsageError(
            f"{path} has the groups {listed}; say with --control NAME which one is the control."
        )
    return named[0]
