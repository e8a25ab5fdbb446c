"""Short words for driving the viewer in tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devtools import Browser

from wsi_anomaly.core.files import write_json
from wsi_anomaly.options import ScoreOptions
from wsi_anomaly.results.summary import FORMAT
from wsi_anomaly.studies import Cohort, CohortSlide, write_cohort
from wsi_anomaly.viewer.folder import Results
from wsi_anomaly.viewer.server import Viewer

READY = "document.body?.dataset.ready === 'yes'"


@contextmanager
def serving(results: Path, reader: str | None = None, *, blinded: bool = False) -> Iterator[Viewer]:
    """Serve a results folder as ``view`` does."""
    server = Viewer(Results(results), reader=reader, blinded=blinded)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def open_slide_page(browser: Browser, server: Viewer, name: str = "slide") -> Browser:
    """Open the page of a slide anew and wait until it is drawn."""
    browser.open("about:blank", "location.href === 'about:blank'")
    browser.open(f"{server.url}view/{name}", READY)
    return browser


def text(page: Browser, selector: str) -> str:
    """Text of the first such element."""
    found: str = page.value(f"document.querySelector({selector!r}).textContent")
    return found


def cohort_page(results: Path) -> None:
    """Write the page of a study of two animals, beside results of its own."""
    slides, folders = [], {}
    for animal, group, score in (("c1", "control", 1.5), ("h1", "high", 3.0)):
        path = Path(f"slides/{animal}.tif")
        slides.append(CohortSlide(path, animal, group, "liver"))
        folders[path] = results.parent / "study" / animal
        facts = {
            "format": FORMAT, "status": "done", "slide": {"name": animal}, "slide_score": score,
            "flagged": {"possible": True, "regions": 1, "area_mm2": 0.5, "threshold": 2.5},
            "tissue_mm2": 2.0, "not_assessed_mm2": 0.5, "model": {"hash": "m"},
        }  # fmt: skip
        write_json(folders[path] / "summary.json", facts)
    study = Cohort(tuple(slides), "control")
    write_cohort(results, study, folders, table=Path("study.csv"), models={"liver": "m"},
                 options=ScoreOptions())  # fmt: skip
