"""Slides at addresses, through fsspec: in memory here, which is as remote as a test may be."""

from __future__ import annotations

import functools
import http.server
import pickle
import threading
from pathlib import Path

import fsspec
import numpy as np
import pytest
from slide_files import stained, write

from wsi_anomaly.core.errors import NotASlideError, UsageError
from wsi_anomaly.core.files import fingerprint
from wsi_anomaly.core.remote import from_anywhere, is_remote, url_of
from wsi_anomaly.slides import ReadError, find_slides, find_tissue, open_slide


@pytest.fixture
def local(tmp_path):
    image = stained(700, 900)
    return write(tmp_path / "s.tif", [image, image[::2, ::2]], mpp=0.5)


@pytest.fixture
def address(local):
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/slides/s.tif", local.read_bytes())
    yield "memory://bucket/slides/s.tif"
    memory.rm("/bucket", recursive=True)


def test_a_remote_slide_reads_like_a_local_one(local, address):
    with open_slide(local) as here, open_slide(address) as there:
        assert (there.backend, there.name) == ("tiff", "s")
        assert there.mpp == here.mpp
        np.testing.assert_array_equal(
            there.read(100, 50, (200, 300), 0.7).rgb, here.read(100, 50, (200, 300), 0.7).rgb
        )
        np.testing.assert_array_equal(find_tissue(there).labels, find_tissue(here).labels)
        with pickle.loads(pickle.dumps(there)) as copy:
            np.testing.assert_array_equal(
                copy.read_level(0, 0, 0, 50, 50).rgb, here.read_level(0, 0, 0, 50, 50).rgb
            )
    assert fingerprint(address) == fingerprint(local)


def test_an_address_survives_being_a_path(address):
    (found,) = find_slides([Path(address)])
    assert is_remote(found)
    assert url_of(found) == address
    assert from_anywhere(found) == found  # a cluster's workers get it as it is
    assert open_slide(found).width == 900


def test_what_is_an_address_and_what_is_a_file(tmp_path, monkeypatch):
    for text in ("s3://b/x.svs", "https://h/x.svs", "gs:/b/x.svs"):
        assert is_remote(text)
        assert is_remote(Path(text))
        assert url_of(Path(text)) == text.replace(":/", "://").replace(":///", "://")
    for text in ("C:/slides/x.svs", "slides/a:b.svs", "file:///tmp/x.svs", "x.svs", "://x"):
        assert not is_remote(text)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ab:").mkdir()
    (tmp_path / "ab:" / "x.svs").write_bytes(b"")
    assert not is_remote("ab:/x.svs")


def test_addresses_that_cannot_be_read_say_why(address):
    with pytest.raises(NotASlideError, match=r"memory://bucket/none\.tif cannot be reached"):
        open_slide("memory://bucket/none.tif")
    with pytest.raises(NotASlideError, match=r"nosuch://b/x\.svs is no address"):
        open_slide("nosuch://b/x.svs")
    with pytest.raises(UsageError, match="OpenSlide opens files of this machine"):
        open_slide(address, backend="openslide")
    fsspec.filesystem("memory").pipe("/bucket/text.svs", b"not a slide")
    with pytest.raises(NotASlideError, match="copy it to this machine"):
        open_slide("memory://bucket/text.svs")


def test_a_slide_that_vanishes_is_a_read_error(local):
    memory = fsspec.filesystem("memory")
    memory.pipe("/gone/s.tif", local.read_bytes())
    slide = open_slide("memory://gone/s.tif")
    memory.rm("/gone", recursive=True)
    with pytest.raises(ReadError, match="cannot be read"):
        slide.read_level(0, 0, 0, 10, 10)


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Python's file server, with the ranges that every storage service has."""

    def do_GET(self):
        body = Path(self.translate_path(self.path)).read_bytes()
        wanted = self.headers.get("Range")
        if wanted is None:
            self.send_response(200)
        else:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            whole, end = len(body), int(last or len(body) - 1)
            body = body[int(first) : end + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{end}/{whole}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def test_a_slide_on_a_web_server(local):
    pytest.importorskip("aiohttp", reason="http addresses need wsi-anomaly[remote]")
    handler = functools.partial(Ranges, directory=str(local.parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/s.tif"
        with open_slide(url) as there, open_slide(local) as here:
            np.testing.assert_array_equal(
                there.read(100, 50, (200, 300), 0.7).rgb, here.read(100, 50, (200, 300), 0.7).rgb
            )
        assert fingerprint(url) == fingerprint(local)
        with pytest.raises(NotASlideError, match="cannot be reached"):
            open_slide(url.replace("s.tif", "none.tif"))
    finally:
        server.shutdown()
        server.server_close()
