"""Results as tables of pandas, for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.results.export import TABLES, methods_of
from wsi_anomaly.results.export_tables import frame_of, package, slide_tables
from wsi_anomaly.results.summary import result_names


class Results:
    """A folder of results.

    Parameters
    ----------
    folder
        Written by ``score``.

    Attributes
    ----------
    slides : list of str
        Names of the slides that have a result, sorted.

    Raises
    ------
    UsageError
        It holds none.
    """

    def __init__(self, folder: str | Path = "results") -> None:
        self.folder = Path(folder)
        self.slides = result_names(self.folder) if self.folder.is_dir() else []
        if not self.slides:
            raise UsageError(
                f"{folder} holds no results; give the folder that 'wsi-anomaly score' has written."
            )

    def to_dataframe(self, table: str = "fields") -> Any:
        """Give a table of all slides, with the columns that ``export`` writes.

        Parameters
        ----------
        table
            "fields", "regions" or "slides": a row each.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        UsageError
            There is no such table, or pandas is not installed.
        OutputError
            A result cannot be read.
        """
        if table not in TABLES:
            raise UsageError(f"The tables are {', '.join(TABLES)}, not {table!r}.")
        pandas, methods = package("pandas"), methods_of(self.folder, self.slides)
        columns = [getattr(slide_tables(self.folder, s, methods), table) for s in self.slides]
        frames = [frame_of(found) for found in columns]
        joined = pandas.concat([frame.astype(_plain(frame)) for frame in frames], ignore_index=True)
        return joined.astype(dict.fromkeys(_plain(frames[0]), "category"))


def _plain(frame: Any) -> dict[str, type]:
    """Columns of categories: those of two slides differ, and are joined as texts."""
    return {str(name): object for name in frame.columns if frame[name].dtype.name == "category"}
