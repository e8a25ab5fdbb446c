"""A results folder as the viewer sees it: its pages, its files, its slides."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from wsi_anomaly.core import journal
from wsi_anomaly.core.errors import UsageError, WsiAnomalyError
from wsi_anomaly.reports.report import environment
from wsi_anomaly.reports.worklist_rows import Rows, collect
from wsi_anomaly.results.raster import faded
from wsi_anomaly.results.slide_files import SlideFiles
from wsi_anomaly.results.summary import read_summary, result_names
from wsi_anomaly.slides import ReadError, Slide, open_slide
from wsi_anomaly.viewer.opened import OpenResults
from wsi_anomaly.viewer.page import page_data
from wsi_anomaly.viewer.reviewing import Reviewing
from wsi_anomaly.viewer.world import TILE_PX, World

TEMPLATES = Path(__file__).parent / "templates"
_OPEN_FILES = ("report.html", "thumbnail.jpg", "heatmap.png")
_JPEG_QUALITY = 85


class NotHereError(WsiAnomalyError):
    """What was asked for is not among the results."""


class Results:
    """A results folder as the viewer sees it; the slides' files are found by what they hold.

    Parameters
    ----------
    folder
        Written by ``wsi-anomaly score``.
    slides
        Where slides lie now, if they are not where they were scored.

    Raises
    ------
    UsageError
        The folder holds no results.
    """

    def __init__(self, folder: Path, slides: Path | None = None) -> None:
        self.folder = folder
        self._files = SlideFiles(slides)
        self.opened = OpenResults()
        self._rows = Rows(folder)
        self._last: tuple[tuple[Any, ...], dict[str, Any] | None] = (), None
        self._open: dict[str, Slide] = {}
        self._lock = threading.Lock()
        if not folder.is_dir() or not self.names():
            raise UsageError(
                f"{folder} holds no results; give the folder that 'wsi-anomaly score' has written."
            )

    def names(self) -> list[str]:
        """Names of the result folders."""
        return result_names(self.folder)

    def summary(self, name: str) -> dict[str, Any]:
        """Summary of one slide; only names that stand in the folder have one."""
        # Listed by name, read alone: reading all of them for each would take minutes for hundreds.
        listed = name[:1] != "." and self.folder / name in set(self.folder.iterdir())
        summary = self._read_summary(name) if listed else None
        if summary is None:
            raise NotHereError(f"{name} is not among the results.")
        return summary

    def _read_summary(self, name: str) -> dict[str, Any] | None:
        """Read it unless it is the one that was read last: each key of a reader asks for it."""
        try:
            is_now = (self.folder / name / "summary.json").stat()
        except OSError:
            return None
        stamp = name, is_now.st_mtime_ns, is_now.st_size, is_now.st_ino
        if self._last[0] != stamp:
            self._last = stamp, read_summary(self.folder / name)
        return self._last[1]

    def file(self, name: str, file: str) -> Path:
        """One of the files that may be looked at."""
        self.summary(name)
        folder = self.folder / name
        path = folder / file
        if file not in _OPEN_FILES or not path.is_file() or _leads_out(path, folder):
            raise NotHereError(f"{file} is not among the results of {name}.")
        return path

    def slide(self, name: str) -> Slide:
        """Open the slide itself, once."""
        with self._lock:
            if name not in self._open:
                summary = self.summary(name)
                settings = summary["settings"]
                if summary["slide"].get("backend") == "embeddings":
                    raise NotHereError(
                        f"{name} was scored by embeddings, without its slide; score it again with "
                        "the slide to see it here."
                    )
                self._open[name] = open_slide(
                    self.slide_path(summary), mpp=settings.get("mpp"), scene=settings.get("scene")
                )
            return self._open[name]

    def slide_path(self, summary: Mapping[str, Any]) -> Path:
        """Where the slide of a summary lies now."""
        try:
            return self._files.find(summary["slide"])
        except UsageError as error:
            raise NotHereError(str(error)) from error

    def release(self, name: str) -> None:
        """Close the slide again: hundreds of open ones would use up files and memory."""
        with self._lock:
            if (slide := self._open.pop(name, None)) is not None:
                slide.close()
                journal.closed(slide.path)

    def tile(self, name: str, zoom: int, x: int, y: int, *, grey: bool = False) -> bytes:
        """Read a tile of the slide, as JPEG; in the report's grey, if it lies under a heatmap."""
        from PIL import Image

        world = World.of(self.summary(name))
        if not (0 <= zoom <= world.max_zoom and 0 <= x < 2**zoom and 0 <= y < 2**zoom):
            raise NotHereError("There is no such tile.")
        slide = self.slide(name)
        corner = world.corner_level0(zoom, x, y)
        try:
            pixels = slide.read(*corner, (TILE_PX, TILE_PX), world.mpp(zoom)).rgb
        except ReadError as error:
            raise NotHereError(str(error)) from error
        if grey:
            pixels = np.rint(faded(pixels)[..., 0]).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=_JPEG_QUALITY)
        return buffer.getvalue()

    def data(self, name: str) -> bytes:
        """Give what the page's script needs."""
        summary, folder = self.summary(name), self.folder / name
        opened = self.opened.get(folder, summary)
        return json.dumps(page_data(name, folder, summary, opened)).encode()

    def page(self, name: str, reader: str = "") -> str:
        """Write the page of one slide, with keys for a reader's verdicts if there is one."""
        summary = self.summary(name)
        names = [row.folder for row in collect(self.folder) if row.folder]
        position = names.index(name)
        return str(
            environment(TEMPLATES)
            .get_template("viewer.html.j2")
            .render(
                name=name,
                link=quote(name, safe=""),
                summary=summary,
                reader=reader,
                before=quote(names[position - 1], safe="") if position else "",
                after=quote(names[position + 1], safe="") if position + 1 < len(names) else "",
            )
        )

    def slides(self) -> list[Path]:
        """Paths of all slides, where they were scored."""
        return [Path(row.path) for row in self._rows.collect() if row.path]

    def index(self, reviewing: Reviewing | None = None) -> str:
        """Write the list of slides, most abnormal first."""
        counts = {}
        if reviewing is not None:
            reviewing.say_what_changed()
        rows = [row for row in collect(self.folder) if row.folder]
        if reviewing is not None:
            counts = {r.folder: reviewing.count(r.folder, self.summary(r.folder)) for r in rows}
        return str(
            environment(TEMPLATES)
            .get_template("viewer_index.html.j2")
            .render(
                rows=[(row, quote(row.folder, safe="")) for row in rows],
                reviewing=reviewing,
                counts=counts,
                reviewed=sum(counts.values()),
                regions=sum(row.regions or 0 for row in rows),
            )
        )


def _leads_out(path: Path, folder: Path) -> bool:
    """Whether a file is a link to somewhere else."""
    return path.resolve().parent != folder.resolve()
