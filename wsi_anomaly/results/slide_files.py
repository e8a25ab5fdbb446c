"""Where the slides of a results folder lie now, and whether it may name them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.slides import find_slides, slide_fingerprint

PRIVATE = ".cohort"
"""Folder in the results for what nobody opens; readable for its owner alone."""


def is_blinded(results: Path) -> bool:
    """Whether a results folder shows slides by codes."""
    return (results / PRIVATE / "secret").is_file()


class SlideFiles:
    """Finds slides by what their results say of them.

    Parameters
    ----------
    folder
        Where slides lie now, if they are not where they were scored; or the one slide itself.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def find(self, facts: Mapping[str, Any]) -> Path:
        """Path of the slide of a summary's entry ``slide``.

        Raises
        ------
        UsageError
            No file has its content.
        """
        path = Path(str(facts["path"]))
        inside = [] if self._folder is None else [self._folder / path.name, self._folder]
        for candidate in inside or [path]:
            if candidate.is_file() and slide_fingerprint(candidate) == facts["fingerprint"]:
                return candidate
        if (found := self._by_content.get(str(facts["fingerprint"]))) is not None:
            return found
        if facts["path"] == facts.get("name"):  # of a blinded reading, which names no file
            raise UsageError(
                f"{path} is a code of a blinded study; say with --slides where its slides are."
            )
        raise UsageError(
            f"The slide {path} is not where it was scored; say where it is with --slides FOLDER."
        )

    @cached_property
    def _by_content(self) -> dict[str, Path]:
        """Slides of the folder by what they hold: a blinded reading does not tell their names."""
        if self._folder is None or not self._folder.is_dir():
            return {}
        return {slide_fingerprint(path): path for path in find_slides([self._folder])}
