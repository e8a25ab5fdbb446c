"""``wsi-anomaly view``: a page on this machine for looking at results beside their slides.

A plain server for one reader: the loopback address only, below a secret of this run that other
users of the machine do not know, nothing but the results folder and the slides it names, no
request to anywhere else. Bokeh's JavaScript comes from its wheel.
"""

from __future__ import annotations

import io
import json
import re
import secrets
import threading
from collections.abc import Callable
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from wsi_anomaly.core.errors import OutputError, UsageError, WsiAnomalyError
from wsi_anomaly.reports.report import STYLE, environment
from wsi_anomaly.reports.worklist import collect
from wsi_anomaly.results.summary import read_summary
from wsi_anomaly.slides import ReadError, Slide, find_slides, open_slide, slide_fingerprint
from wsi_anomaly.viewer.page import TILE_PX, World, page_data

HOST = "127.0.0.1"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' "
    "data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_STATIC = Path(__file__).parent / "templates"
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".json": "application/json",
}
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
        self._slides = slides
        self._open: dict[str, Slide] = {}
        self._lock = threading.Lock()
        if not folder.is_dir() or not self.names():
            raise UsageError(
                f"{folder} holds no results; give the folder that 'wsi-anomaly score' has written."
            )

    def names(self) -> list[str]:
        """Names of the result folders."""
        found = (p for p in self.folder.iterdir() if p.is_dir() and p.name[0] != ".")
        return sorted(p.name for p in found if read_summary(p) is not None)

    def summary(self, name: str) -> dict[str, Any]:
        """Summary of one slide; only names that stand in the folder have one."""
        # Listed by name, read alone: reading all of them for each would take minutes for hundreds.
        listed = name[:1] != "." and any(p.name == name for p in self.folder.iterdir())
        summary = read_summary(self.folder / name) if listed else None
        if summary is None:
            raise NotHereError(f"{name} is not among the results.")
        return summary

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
                self._open[name] = open_slide(
                    self._find(summary["slide"]),
                    mpp=settings.get("mpp"),
                    scene=settings.get("scene"),
                )
            return self._open[name]

    def release(self, name: str) -> None:
        """Close the slide again: hundreds of open ones would use up files and memory."""
        with self._lock:
            if (slide := self._open.pop(name, None)) is not None:
                slide.close()

    def _find(self, facts: dict[str, Any]) -> Path:
        path = Path(str(facts["path"]))
        places = [path] if self._slides is None else [self._slides / path.name, self._slides]
        for place in places:
            if place.is_file() and slide_fingerprint(place) == facts["fingerprint"]:
                return place
        if (found := self._by_content.get(str(facts["fingerprint"]))) is not None:
            return found
        raise NotHereError(
            f"The slide {path} is not where it was scored; start the viewer with --slides FOLDER."
        )

    @cached_property
    def _by_content(self) -> dict[str, Path]:
        """Slides of the folder by what they hold: a blinded reading does not tell their names."""
        if self._slides is None or not self._slides.is_dir():
            return {}
        return {slide_fingerprint(path): path for path in find_slides([self._slides])}

    def tile(self, name: str, zoom: int, x: int, y: int) -> bytes:
        """Read a tile of the slide, as JPEG."""
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
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=_JPEG_QUALITY)
        return buffer.getvalue()

    def page(self, name: str) -> str:
        """Write the page of one slide."""
        summary = self.summary(name)
        names = [row.folder for row in collect(self.folder) if row.folder]
        position = names.index(name)
        return str(
            environment(_STATIC)
            .get_template("viewer.html.j2")
            .render(
                name=name,
                link=quote(name, safe=""),
                summary=summary,
                before=quote(names[position - 1], safe="") if position else "",
                after=quote(names[position + 1], safe="") if position + 1 < len(names) else "",
            )
        )

    def index(self) -> str:
        """Write the list of slides, most abnormal first."""
        rows = [(row, quote(row.folder, safe="")) for row in collect(self.folder) if row.folder]
        return str(environment(_STATIC).get_template("viewer_index.html.j2").render(rows=rows))


def _leads_out(path: Path, folder: Path) -> bool:
    """Whether a file is a link to somewhere else."""
    return path.resolve().parent != folder.resolve()


class Viewer(ThreadingHTTPServer):
    """The server; ``serve_forever`` runs it, ``shutdown`` ends it.

    Raises
    ------
    UsageError
        The port is taken.
    """

    daemon_threads = True

    def __init__(self, results: Results, port: int = 0) -> None:
        self.results = results
        self.token = secrets.token_urlsafe(24)
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UsageError(f"Port {port} cannot be used ({error}); give another one.") from error

    @property
    def url(self) -> str:
        """Address of the first page; whoever knows it can read the slides."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    @cached_property
    def hosts(self) -> set[str]:
        """Names under which it answers: no other site may reach it through a name of its own."""
        return {f"{name}:{self.server_port}" for name in (HOST, "localhost")}


class _Handler(BaseHTTPRequestHandler):
    server: Viewer
    server_version = "wsi-anomaly"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer, or say in a sentence why not."""
        try:
            if self.headers.get("Host") not in self.server.hosts:
                self._send(HTTPStatus.FORBIDDEN, b"This address is not served.", "text/plain")
                return
            self._answer()
        except NotHereError as error:
            self._send(HTTPStatus.NOT_FOUND, str(error).encode(), "text/plain; charset=utf-8")
        except ConnectionError:  # the reader went to another page meanwhile
            self.close_connection = True
        except (WsiAnomalyError, OSError) as error:
            text = str(error).encode()
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, text, "text/plain; charset=utf-8")
        except Exception as error:  # noqa: BLE001 - a result of a stranger must not end an answer
            text = f"This result cannot be shown: {type(error).__name__} ({error}).".encode()
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, text, "text/plain; charset=utf-8")

    def do_HEAD(self) -> None:
        """Answer without the content."""
        self.do_GET()

    def _answer(self) -> None:
        results = self.server.results
        # Split first, decode after: an encoded slash stays part of a name, and names are looked up.
        token, _, path = urlsplit(self.path).path.removeprefix("/").partition("/")
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            raise NotHereError("There is no such page; open the address that 'view' has printed.")
        parts = [unquote(part) for part in path.strip("/").split("/")]
        routes: dict[tuple[str, int], Callable[..., tuple[bytes, str]]] = {
            ("", 1): lambda _: (results.index().encode(), ".html"),
            ("view", 2): lambda _, name: (results.page(name).encode(), ".html"),
            ("data", 2): lambda _, name: (_data(results, name), ".json"),
            ("static", 2): lambda _, name: (_static(name), Path(name).suffix),
            ("tile", 5): lambda _, *place: (_tile(results, *place), ".jpg"),
            ("file", 3): lambda _, name, file: (
                results.file(name, file).read_bytes(),
                Path(file).suffix,
            ),
        }
        route = routes.get((parts[0], len(parts)))
        if route is None:
            raise NotHereError("There is no such page.")
        body, suffix = route(*parts)
        policy = _REPORT_POLICY if parts[0] == "file" else POLICY
        self._send(HTTPStatus.OK, body, _TYPES.get(suffix, "application/octet-stream"), policy)

    def _send(self, status: HTTPStatus, body: bytes, kind: str, policy: str = POLICY) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Content-Security-Policy", policy),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its base's name
        """Stay quiet: a line for each tile would drown everything else."""


def _data(results: Results, name: str) -> bytes:
    summary = results.summary(name)
    return json.dumps(page_data(name, results.folder / name, summary)).encode()


def _tile(results: Results, name: str, *place: str) -> bytes:
    zoom, x, y = (part.removesuffix(".jpg") for part in place)
    if not all(re.fullmatch(r"\d{1,9}", part) for part in (zoom, x, y)):
        raise NotHereError("There is no such tile.")
    return results.tile(name, int(zoom), int(x), int(y))


def _static(name: str) -> bytes:
    if name == "bokeh.min.js":
        import bokeh

        path = Path(bokeh.__file__).parent / "server" / "static" / "js" / name
    elif name == STYLE.name:
        path = STYLE
    elif name in {"viewer.js", "viewer.css"}:
        path = _STATIC / name
    else:
        raise NotHereError("There is no such file.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise OutputError(f"{path} is missing; install wsi-anomaly again.") from error
