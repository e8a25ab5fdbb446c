"""Which case each slide of a worklist is of: said once, known to later runs and other machines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from wsi_anomaly.core.files import output_errors, write_json
from wsi_anomaly.core.locks import alone_with
from wsi_anomaly.results.summary import FORMAT, read_entry

NOTE = ".cases.json"
"""File of a results folder that says whose its slides are."""


def noted_cases(results: Path) -> dict[str, str]:
    """Case of each slide, by its folder and by its path; a note can be damaged."""
    file = results / NOTE
    cases = ((read_entry(file) if file.is_file() else None) or {}).get("cases")
    return {str(name): str(case) for name, case in cases.items()} if isinstance(cases, dict) else {}


def note_cases(results: Path, cases: Mapping[str, str]) -> None:
    """Keep what is newly known of slides; what earlier runs said of others stays.

    Raises
    ------
    OutputError
        The note cannot be written.
    """
    file = results / NOTE
    with output_errors(file), alone_with(file):
        write_json(file, {"format": FORMAT, "cases": noted_cases(results) | dict(cases)})
