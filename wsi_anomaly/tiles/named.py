"""What tables say of slides: their pixel sizes and their cases, for every verb."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from wsi_anomaly.core.slide_names import OWN_CASE, Entry, match, read_cases, read_pixel_sizes

Note = Callable[[str], None]


def sizes_of(slides: Sequence[Path], mpp_csv: str | Path | None, note: Note) -> dict[Path, float]:
    """Micrometres per pixel of those slides that a table names; `note` is told what misses.

    Raises
    ------
    UsageError
        The table cannot be read, or does not fit the slides.
    """
    if mpp_csv is None:
        return {}
    matched = read_pixel_sizes(Path(mpp_csv), slides)
    for sentence in matched.mismatches("--mpp-csv", [slide.name for slide in slides]):
        note(sentence)
    return matched.by(slides)


def cases_of(
    slides: Sequence[Path], cases: str | Path | Mapping[str, str] | None, note: Note
) -> dict[Path, str]:
    """Patient or animal of those slides that a table names; `note` is told what misses.

    Raises
    ------
    UsageError
        The table cannot be read, or does not fit the slides.
    """
    if cases is None:
        return {}
    matched = (
        match("cases", [Entry(name, case) for name, case in cases.items()], slides)
        if isinstance(cases, Mapping)
        else read_cases(Path(cases), slides)
    )
    for sentence in matched.mismatches("--cases", [slide.name for slide in slides], OWN_CASE):
        note(sentence)
    return matched.by(slides)
