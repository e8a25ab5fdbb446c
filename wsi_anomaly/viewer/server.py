"""``wsi-anomaly view``: a page on this machine for looking at results beside their slides.

A plain server for one reader: the loopback address only, below a secret of this run that other
users of the machine do not know, nothing but the results folder and the slides it names, no
request to anywhere else. Bokeh's JavaScript comes from its wheel.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from wsi_anomaly.core.errors import OutputError, UsageError, WsiAnomalyError
from wsi_anomaly.reports.beside import BesideRows
from wsi_anomaly.reports.report import STYLE
from wsi_anomaly.results.region_file import read_region_file
from wsi_anomaly.viewer.folder import TEMPLATES, NotHereError, Results
from wsi_anomaly.viewer.kinds import KindsPage
from wsi_anomaly.viewer.marking import Marking
from wsi_anomaly.viewer.readers import readers_page
from wsi_anomaly.viewer.reviewing import Reviewing

HOST = "127.0.0.1"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' "
    "data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".json": "application/json",
}
_LONGEST_DECISION = 1 << 16
_SCRIPTS = {
    "viewer.js",
    "heatmap.js",
    "overview.js",
    "review.js",
    "why.js",
    "kinds.js",
    "marks.js",
    "drawing.js",
}


class Viewer(ThreadingHTTPServer):
    """The server; ``serve_forever`` runs it, ``shutdown`` ends it.

    Parameters
    ----------
    results
        What is shown.
    port
        Of this machine; 0: any that is free.
    reader
        Who reviews; None: nobody, and nothing is written.
    blinded
        Whether the reader sees only what is the reader's own.

    Raises
    ------
    UsageError
        The port is taken.
    """

    daemon_threads = True

    def __init__(
        self, results: Results, port: int = 0, *, reader: str | None = None, blinded: bool = False
    ) -> None:
        self.results = results
        self.reviewing = reader and Reviewing(
            results.folder, reader, blinded=blinded, opened=results.opened
        )
        self.marking = Marking(results, reader or "")
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
    def kinds(self) -> KindsPage:
        """The kinds of its flagged regions, for a reader."""
        assert self.reviewing
        return KindsPage(self.results, self.reviewing)

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
        self._try(self._answer)

    def do_POST(self) -> None:
        """Take a decision of the reader, and answer once it is on the disk."""
        self._try(self._take)

    def _try(self, answer: Callable[[], None]) -> None:
        try:
            if self.headers.get("Host") not in self.server.hosts:
                self._send(HTTPStatus.FORBIDDEN, b"This address is not served.", "text/plain")
                return
            answer()
        except UsageError as error:
            self._send(HTTPStatus.CONFLICT, str(error).encode(), "text/plain; charset=utf-8")
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

    def _parts(self) -> list[str]:
        # Split first, decode after: an encoded slash stays part of a name, and names are looked up.
        token, _, path = urlsplit(self.path).path.removeprefix("/").partition("/")
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            raise NotHereError("There is no such page; open the address that 'view' has printed.")
        return [unquote(part) for part in path.strip("/").split("/")]

    def _reviewing(self) -> Reviewing:
        if not self.server.reviewing:
            raise NotHereError("Nobody reviews; start the viewer with --reader NAME.")
        return self.server.reviewing

    def _kinds(self) -> KindsPage:
        self._reviewing()
        return self.server.kinds

    def _take(self) -> None:
        parts = self._parts()
        # What another site can make a browser send is no JSON, and it does not know the address.
        kind = self.headers.get("Content-Type", "")
        length = self.headers.get("Content-Length", "")
        route = parts[0], len(parts)
        if route not in {("review", 2), ("kind", 1), ("marks", 2)} or kind != "application/json":
            raise NotHereError("There is no such page.")
        if not length.isdecimal() or len(length) > 9 or int(length) > _LONGEST_DECISION:
            raise UsageError("A decision is shorter; shorten the note.")
        try:
            asked = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            asked = None
        if not isinstance(asked, dict):
            raise UsageError("This is no decision; open the page again.")
        if route == ("kind", 1):
            answer = self._kinds().decide(asked)
        elif route == ("marks", 2):
            answer = self.server.marking.change(parts[1], asked)
        else:
            name = parts[1]
            answer = self._reviewing().decide(name, self.server.results.summary(name), asked)
        self._send(HTTPStatus.OK, json.dumps(answer).encode(), _TYPES[".json"])

    def _answer(self) -> None:
        results = self.server.results
        parts = self._parts()
        reviewing = self.server.reviewing
        routes: dict[tuple[str, int], Callable[..., tuple[bytes, str]]] = {
            ("", 1): lambda _: (results.index(reviewing or None).encode(), ".html"),
            ("view", 2): lambda _, name: (
                results.page(name, reviewing.reader if reviewing else "").encode(),
                ".html",
            ),
            ("why", 3): lambda _, name, region: (_why(results, name, region), ".json"),
            ("data", 2): lambda _, name: (results.data(name), ".json"),
            ("review", 2): lambda _, name: (
                json.dumps(self._reviewing().state(name, results.summary(name))).encode(),
                ".json",
            ),
            ("marks", 2): lambda _, name: (
                json.dumps(self.server.marking.state(name)).encode(),
                ".json",
            ),
            ("kinds", 1): lambda _: (self._kinds().page().encode(), ".html"),
            ("readers", 1): lambda _: (readers_page(results, self._reviewing()).encode(), ".html"),
            ("static", 2): lambda _, name: (_static(name), Path(name).suffix),
            ("tile", 5): lambda _, *place: (_tile(results, *place), ".jpg"),
            ("grey", 5): lambda _, *place: (_tile(results, *place, grey=True), ".jpg"),
            ("file", 3): lambda _, name, file: (
                results.file(name, file).read_bytes(),
                Path(file).suffix,
            ),
        }
        if parts == ["file", "index.html"]:  # where a report that is read here has its worklist
            self._send(HTTPStatus.FOUND, b"", _TYPES[".html"], location="../")
            return
        route = routes.get((parts[0], len(parts)))
        if route is None:
            raise NotHereError("There is no such page.")
        body, suffix = route(*parts)
        policy = _REPORT_POLICY if parts[0] == "file" else POLICY
        self._send(HTTPStatus.OK, body, _TYPES.get(suffix, "application/octet-stream"), policy)

    def _send(
        self, status: HTTPStatus, body: bytes, kind: str, policy: str = POLICY, location: str = ""
    ) -> None:
        self.send_response(status)
        if location:
            self.send_header("Location", location)
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


def _tile(results: Results, name: str, *place: str, grey: bool = False) -> bytes:
    zoom, x, y = (part.removesuffix(".jpg") for part in place)
    if not all(re.fullmatch(r"\d{1,9}", part) for part in (zoom, x, y)):
        raise NotHereError("There is no such tile.")
    return results.tile(name, int(zoom), int(x), int(y), grey=grey)


def _why(results: Results, name: str, region: str) -> bytes:
    if not re.fullmatch(r"\d{1,9}", region):
        raise NotHereError("There is no such region.")
    results.summary(name)  # only what is listed is looked for
    rows = BesideRows(read_region_file(results.folder / name))
    row = rows.of_region(int(region)) if int(region) else None
    if row is None:
        raise NotHereError("Nothing is known of why it is flagged; score the slide again.")
    for normal, number in zip(row["normals"], row.pop("numbers"), strict=True):
        normal["picture"] = rows.pictures[number]
    return json.dumps(row).encode()


def _static(name: str) -> bytes:
    if name == "bokeh.min.js":
        import bokeh

        path = Path(bokeh.__file__).parent / "server" / "static" / "js" / name
    elif name == STYLE.name:
        path = STYLE
    elif name in _SCRIPTS or name == "viewer.css":
        path = TEMPLATES / name
    else:
        raise NotHereError("There is no such file.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise OutputError(f"{path} is missing; install wsi-anomaly again.") from error
