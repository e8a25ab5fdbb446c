"""A folder of results: one table and one summary for each slide, all of one model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wsi_anomaly.annotations import Extent
from wsi_anomaly.core.errors import UsageError, WsiAnomalyError
from wsi_anomaly.evaluation.results import ScoredSlide
from wsi_anomaly.options import Origin
from wsi_anomaly.results.summary import read_summary


@dataclass(frozen=True, eq=False)
class Result:
    """One results folder: the tile table, and what ``summary.json`` says of slide and model.

    Attributes
    ----------
    table
        The scores.
    slide_path
        Where the slide was when it was scored.
    size, bounds
        Width and height of the slide; x, y, width and height of its scanned area: level-0 pixels.
    qupath_origin
        Where QuPath's (0, 0) lies: "bounds" (of the scanned area) or "level0".
    field_um
        Side of a field, micrometres.
    seen
        Part of training that the slide was in, or None.
    model
        Name and hash of the model.
    """

    table: ScoredSlide
    slide_path: Path
    size: tuple[int, int]
    bounds: tuple[int, int, int, int]
    qupath_origin: Origin
    field_um: float
    seen: str | None
    model: tuple[str, str]

    @classmethod
    def read(cls, folder: Path) -> Result:
        """Read a results folder.

        Raises
        ------
        WsiAnomalyError
            It is damaged.
        """
        summary = read_summary(folder) or {}
        try:
            slide, model = summary["slide"], summary["model"]
            return cls(
                table=ScoredSlide.read(folder),
                slide_path=Path(slide["path"]),
                size=(int(slide["size_px"][0]), int(slide["size_px"][1])),
                bounds=tuple(int(v) for v in slide["bounds"]),  # type: ignore[arg-type]
                qupath_origin="level0" if summary["qupath_origin"] == "level0" else "bounds",
                field_um=float(summary["fields"]["field_um"]),
                seen=summary["seen_in"],
                model=(str(model["name"]), str(model["hash"])),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise WsiAnomalyError(
                f"{folder} holds a damaged summary.json ({error!r}); score the slide again."
            ) from error

    @property
    def extent(self) -> Extent:
        """What places outlines on the slide."""
        return Extent(self.slide_path, self.size, self.bounds, self.qupath_origin)

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.table.name


def read_results(folder: str | Path) -> tuple[list[Result], list[str]]:
    """Read all results of a folder, by name.

    Returns
    -------
    results
        Of one model.
    problems
        A sentence for each that cannot be read.

    Raises
    ------
    UsageError
        The folder holds none.
    WsiAnomalyError
        None can be read, or they are of several models.
    """
    folder = Path(folder)
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    folders = [p for p in found if p.is_dir() and p.name[0] != "." and read_summary(p) is not None]
    if not folders:
        raise UsageError(
            f"{folder} holds no results; give the folder that 'wsi-anomaly score' has written."
        )
    results, problems = [], []
    for path in folders:
        try:
            results.append(Result.read(path))
        except WsiAnomalyError as error:
            problems.append(str(error))
    if not results:
        raise WsiAnomalyError(problems[0])
    models = {result.model: result.name for result in results}
    if len(models) > 1:
        (one, first), (other, second) = list(models.items())[:2]
        raise WsiAnomalyError(
            f"{folder} holds results of {len(models)} models, whose scores do not compare "
            f"({first}: {one[0]} {one[1][:8]}, {second}: {other[0]} {other[1][:8]}); score all "
            "slides with one of them."
        )
    return results, problems
