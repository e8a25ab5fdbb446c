"""What tables say of slides: their pixel sizes and their cases, for every verb."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from wsi_anomaly.tiles.jobs import look_up, read_cases_csv, read_mpp_csv

Note = Callable[[str], None]


def sizes_of(
    slides: Sequence[Path], mpp: float | None, mpp_csv: str | Path | None
) -> list[float | None]:
    """Micrometres per pixel of each slide that somebody has said; a table wins over `mpp`.

    Raises
    ------
    UsageError
        The table cannot be read, or a line makes no sense.
    """
    table = {} if mpp_csv is None else read_mpp_csv(Path(mpp_csv))
    return [look_up(table, slide) or mpp for slide in slides]


def cases_of(
    slides: Sequence[Path], cases: str | Path | Mapping[str, str] | None, note: Note
) -> list[str | None]:
    """Patient or animal of each slide, None where nobody has said it; `note` is told of those.

    Raises
    ------
    UsageError
        The table cannot be read, or a line makes no sense.
    """
    if cases is None:
        return [None] * len(slides)
    table = case_table(cases)
    found = [look_up(table, slide) for slide in slides]
    left = [slide.name for slide, case in zip(slides, found, strict=True) if case is None]
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
