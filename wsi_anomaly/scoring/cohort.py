"""The table of a toxicologic study: whose slide it is, in which group, of which organ."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_anomaly.core.errors import UsageError

COLUMNS = ("slide", "animal", "group", "organ")
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
        CSV with the columns slide, animal, group, organ, in any order. A slide is named by its
        file name, with or without the suffix; where names would collide, by the end of its path.
    slides
        The slides to be scored: each stands in the table once, and no other does.
    control
        Name of the control group; by default the one that is called so.

    Raises
    ------
    UsageError
        The table cannot be read, contradicts itself, or does not fit the slides.
    """
    rows = _rows(path)
    found: dict[Path, CohortSlide] = {}
    for name, animal, group, organ in rows:
        slide = _find(path, name, slides)
        if slide in found:
            raise UsageError(f"{path} names {slide} twice; a slide has one line.")
        found[slide] = CohortSlide(slide, animal, group, organ)
    for slide in slides:
        if slide not in found:
            raise UsageError(f"{slide} is not in {path}; add a line for it, or leave it out.")
    groups: dict[str, str] = {}
    for _, animal, group, _ in rows:
        if groups.setdefault(animal, group) != group:
            raise UsageError(
                f"{path} has animal {animal} in the groups {groups[animal]} and {group}; an animal "
                "belongs to one."
            )
    chosen = _control(path, list(dict.fromkeys(groups.values())), control)
    cohort = Cohort(tuple(found.values()), chosen)
    for organ in cohort.organs:
        if not any(cohort.is_control(s) for s in cohort.of_organ(organ)):
            raise UsageError(
                f"{path} has no {organ} of the control group {chosen}; add control slides of "
                "it, or leave the organ out."
            )
    return cohort


def _rows(path: Path) -> list[tuple[str, str, str, str]]:
    wanted = ",".join(COLUMNS)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in row] for row in csv.reader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise UsageError(
            f"{path} cannot be read ({reason}); it should be a CSV file with the columns {wanted}."
        ) from error
    lines = [line for line in lines if any(line)]
    header = [cell.lower() for cell in lines[0]] if lines else []
    if sorted(header) != sorted(COLUMNS):
        raise UsageError(
            f"{path} should begin with the line {wanted}, not {','.join(header)!r}; add, rename or "
            "remove columns."
        )
    if len(lines) == 1:
        raise UsageError(f"{path} has no line below its header; add one for each slide.")
    out = []
    for line in lines[1:]:
        if len(line) != len(header) or not all(line):
            raise UsageError(
                f"{path} should give {wanted} in every line, not {','.join(line)!r}; fill it in."
            )
        values = dict(zip(header, line, strict=True))
        out.append((values["slide"], values["animal"], values["group"], values["organ"]))
    return out


def _find(table: Path, name: str, slides: Sequence[Path]) -> Path:
    """Find the slide that a line means."""
    end = "/" + name.replace("\\", "/").removeprefix("./").lstrip("/")
    fitting = [p for p in slides if name in (p.name, p.stem)]
    fitting = fitting or [p for p in slides if p.absolute().as_posix().endswith(end)]
    if not fitting:
        raise UsageError(
            f"{table} names the slide {name}, which is not among the slides given; give it too, or "
            "remove its line."
        )
    if len(fitting) > 1:
        raise UsageError(
            f"{table} names the slide {name}, which could be {fitting[0]} or {fitting[1]}; write "
            "its folder too."
        )
    return fitting[0]


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
