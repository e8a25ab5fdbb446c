"""Short words for driving the viewer in tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devtools import Browser

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
