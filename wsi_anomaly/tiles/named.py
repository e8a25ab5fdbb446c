"""What tables say of slides: their pixel sizes and their cases, for every verb."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from wsi_anomaly.tiles.jobs import look_up, read_cases_csv, read_mpp_csv

Note = Callable[[str], None]


def sizes_of(slides: Sequence[Path], mpp_csv: str | Path | None) -> dict[Path, float]:
    """Micrometres per pixel of those slides that a table names.

    Raises
    ------
    UsageError
        The table cannot be read, or a line makes no sense.
    """
    table = {} if mpp_csv is None else read_mpp_csv(Path(mpp_csv))
    return {slide: size for slide in slides if (size := look_up(table, slide)) is not None}


def cases_of(
    slides: Sequence[Path], cases: str | Path | Mapping[str, str] | None, note: Note
) -> dict[Path, str]:
    """Patient or animal of those slides that a table names; `note` is told of the others.

    Raises
    ------
    UsageError
        The table cannot be read, or a line makes no sense.
    """
    if cases is None:
        return {}
    table = case_table(cases)
    found = {slide: case for slide in slides if (case := look_up(table, slide)) is not None}
    left = [slide.name for slide in slides if slide not in found]
    if left:
        # A wrong name in the table has no other effect.
        some = ", ".join(left[:3]) + (", ..." if len(left) > 3 else "")
        note(
            f"--cases does not name {len(left)} of {len(slides)} slides ({some}); each of them is "
            "a case of its own."
        )
    return found


def case_table(cases: str | Path | Mapping[str, str]) -> Mapping[str, str]:
    """Cases by the names that a table, or a mapping, uses for slides."""
    return cases if isinstance(cases, Mapping) else read_cases_csv(Path(cases))
