"""The viewer: what it serves, what it does not, and its page in a real browser."""

from __future__ import annotations

import http.client
import io
import json
import shutil
import socket
import subprocess
import threading
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from score_map_fakes import fake_calibration, fake_score_map, fake_slide

from wsi_anomaly.cli.main import main
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.reports import write_results
from wsi_anomaly.slides import open_slide
from wsi_anomaly.viewer.page import page_data
from wsi_anomaly.viewer.server import NotHereError, Results, Viewer
from wsi_anomaly.viewer.world import World

pytest.importorskip("bokeh")
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    work = tmp_path_factory.mktemp("viewer")
    slide_file = fake_slide(work / "slide.tif")
    score_map = fake_score_map(3, calibration=fake_calibration(), slide=slide_file)
    other = replace(score_map, slide=replace(score_map.slide, name=EVIL))
    with open_slide(slide_file) as slide:
        write_results(score_map, slide, work / "results" / "sl ide")
        write_results(other, slide, work / "results" / "other")
    (work / "secret.txt").write_text("t0p s3cret")
    (work / "results" / "secret.txt").write_text("t0p s3cret")
    (work / "results" / "sl ide" / "secret.txt").write_text("t0p s3cret")
    return work / "results"


@pytest.fixture(scope="module")
def server(results):
    made = Viewer(Results(results))
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def get(server, path, host=None):
    """A request with the path exactly as it is: no client tidies it."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.putrequest("GET", f"/{server.token}{path}", skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


def test_only_the_loopback_address_listens(server):
    assert server.server_address[0] == "127.0.0.1"
    other = socket.gethostbyname(socket.gethostname())
    if not other.startswith("127."):
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((other, server.server_port), timeout=2)


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/file/../secret.txt",
        "/file/sl%20ide/../../secret.txt",
        "/file/sl%20ide/..%2f..%2fsecret.txt",
        "/file/sl%20ide/%2e%2e%2fsecret.txt",
        "/file/..%2f/secret.txt",
        "/file/%2e%2e/secret.txt",
        "/file/sl%20ide/secret.txt",
        "/file/sl%20ide//etc/passwd",
        "/file//etc/passwd",
        "/file/sl%20ide/%2fetc%2fpasswd",
        "/file/sl%20ide/report.html%00.txt",
        "/static/..%2fviewer.py",
        "/static/report.html.j2",
        "/static/bokeh.js",
        "/view/..",
        "/view/.",
        "/view/none",
        "/data/..%2fsecret",
        "/tile/..%2f..%2fsecret/0/0/0.jpg",
        "/tile/sl%20ide/0/0/9.jpg",
        "/tile/sl%20ide/99/0/0.jpg",
        "/tile/sl%20ide/-1/0/0.jpg",
        "/tile/sl%20ide/a/b/c.jpg",
        "//etc/passwd",
        "/secret.txt",
    ],
)
def test_nothing_but_the_results_is_served(server, path):
    status, headers, body = get(server, path)
    assert status == 404
    assert b"s3cret" not in body
    assert headers["Content-Type"].startswith("text/plain")


def test_a_report_leads_back_to_the_list_of_slides(server):
    page = get(server, "/file/sl%20ide/report.html")[2].decode()
    assert 'href="../index.html#' in page
    status, headers, _ = get(server, "/file/index.html")
    assert (status, headers["Location"]) == (302, "../")


def test_a_link_among_the_results_is_not_followed(results, tmp_path):
    secret = tmp_path / "secret.html"
    secret.write_text("secret")
    seen = Results(results)
    folder = results / seen.names()[0]
    report, kept = folder / "report.html", folder / "kept.html"
    assert seen.file(folder.name, "report.html") == report
    report.rename(kept)
    try:
        report.symlink_to(secret)
        with pytest.raises(NotHereError):
            seen.file(folder.name, "report.html")
    finally:
        report.unlink()
        kept.rename(report)


def test_without_the_token_nothing_is_served(server):
    """Another user of the machine may see the port, not the address."""
    assert len(server.token) >= 32
    assert server.token in server.url
    for path in ("/", "/view/sl%20ide", "/static/viewer.js", f"/{server.token[1:]}x/", "/%C3%A4/"):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 404
        assert b"open the address" in answer.read()


def test_the_browser_is_told_the_address_in_a_file(results, monkeypatch, capsys):
    """What a program is started with, every user can see."""
    opened = []

    def told(address):
        opened.append((address, Path(address.removeprefix("file://")).read_text()))

    monkeypatch.setattr("webbrowser.open", told)
    monkeypatch.setattr(Viewer, "serve_forever", lambda _self: None)
    assert main(["view", str(results)]) == 0
    [(address, page)] = opened
    url = capsys.readouterr().err.split()[1]
    assert url in page
    assert url not in address


def test_another_host_name_is_refused(server):
    """A site elsewhere whose name is made to point here must not read the results."""
    assert get(server, "/", host="evil.example")[0] == 403
    assert get(server, "/", host=f"localhost:{server.server_port}")[0] == 200


@pytest.mark.parametrize(
    "path", ["/", "/view/sl%20ide", "/data/sl%20ide", "/static/viewer.js", "/static/style.css"]
)
def test_every_answer_carries_a_strict_policy(server, path):
    status, headers, _ = get(server, path)
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe-eval" not in policy
    assert "http" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_names_are_escaped_and_pages_ask_nobody_else(server):
    for path in ("/", "/view/other"):
        text = get(server, path)[2].decode()
        assert EVIL not in text
        assert EVIL in unescape(text)
        assert "//" not in text.replace("<!doctype", "")


def test_tiles_are_the_slide(server, results):
    """The whole slide at zoom 0, and one of its pixels' neighbourhoods at the highest zoom."""
    summary = json.loads((results / "sl ide" / "summary.json").read_text())
    world = World.of(summary)
    with open_slide(summary["slide"]["path"]) as slide:
        for zoom, x, y in ((0, 0, 0), (world.max_zoom, 3, 2)):
            status, _, body = get(server, f"/tile/sl%20ide/{zoom}/{x}/{y}.jpg")
            assert status == 200
            found = np.asarray(Image.open(io.BytesIO(body))).astype(int)
            assert found.shape == (256, 256, 3)
            expected = slide.read(
                *world.corner_level0(zoom, x, y), (256, 256), world.mpp(zoom)
            ).rgb.astype(int)
            assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.97
    level0 = world.corner_level0(world.max_zoom, 3, 2)
    assert level0 == (768.0, 512.0)  # at the highest zoom a picture pixel is a slide pixel


def test_the_map_lies_on_the_slide(results):
    """Regions of the summary, in world coordinates, fall on high scores of the map."""
    folder = results / "sl ide"
    summary = json.loads((folder / "summary.json").read_text())
    data = page_data("sl ide", folder, summary)
    assert len(data["regions"]) == summary["flagged"]["regions"] >= 1
    low, high = data["own_range"]  # the switch to the colours of this slide alone
    assert low < high <= data["highest"]
    (document,) = [data["figure"]["doc"]]
    source = next(
        r for r in _models(document) if r.get("attributes", {}).get("name") == "map"
    )["attributes"]["data"]  # fmt: skip
    values = {k: v[0] for k, v in _entries(source).items() if k != "image"}
    scores = np.array([np.nan if v is None else v for v in data["scores"]])
    rows, cols = 20, 30
    grid = scores.reshape(rows, cols)
    for region in data["regions"]:
        col = int((region["um"][0] - values["x"]) / values["dw"] * cols)
        row = rows - 1 - int((region["um"][1] - values["y"]) / values["dh"] * rows)
        around = grid[max(0, row - 1) : row + 2, max(0, col - 1) : col + 2]
        assert np.nanmax(around) > np.nanquantile(scores, 0.8)


def _models(value):
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from _models(part)
    elif isinstance(value, list):
        for part in value:
            yield from _models(part)


def _entries(value):
    return dict(value["entries"]) if value.get("type") == "map" else value


def test_a_slide_that_has_moved_is_found_by_its_content(results, tmp_path):
    original = results.parent / "slide.tif"
    shutil.copytree(results, tmp_path / "results")
    for summary_file in (tmp_path / "results").glob("*/summary.json"):
        summary = json.loads(summary_file.read_text())
        summary["slide"]["path"] = "/nowhere/slide.tif"
        summary_file.write_text(json.dumps(summary))
    from wsi_anomaly.viewer.server import NotHereError

    with pytest.raises(NotHereError, match="--slides"):
        Results(tmp_path / "results").tile("sl ide", 0, 0, 0)
    assert Results(tmp_path / "results", original.parent).tile("sl ide", 0, 0, 0)[:2] == b"\xff\xd8"
    (tmp_path / "slide.tif").write_bytes(b"another slide of that name")
    with pytest.raises(NotHereError):
        Results(tmp_path / "results", tmp_path).tile("sl ide", 0, 0, 0)


def test_a_slide_of_a_blinded_reading_is_found_among_the_slides_given(results, tmp_path):
    shutil.copytree(results, tmp_path / "results")
    file = tmp_path / "results" / "sl ide" / "summary.json"
    summary = json.loads(file.read_text())
    summary["slide"] |= {"name": "S-BCDFG", "path": "S-BCDFG"}
    file.write_text(json.dumps(summary))
    from wsi_anomaly.viewer.server import NotHereError

    with pytest.raises(
        NotHereError, match="S-BCDFG is a code of a blinded study; say with --slides where"
    ):
        Results(tmp_path / "results").tile("sl ide", 0, 0, 0)
    (tmp_path / "slides").mkdir()
    shutil.copy(results.parent / "slide.tif", tmp_path / "slides" / "rat 7.tif")
    found = Results(tmp_path / "results", tmp_path / "slides")
    assert found.tile("sl ide", 0, 0, 0)[:2] == b"\xff\xd8"


def test_wrong_usage_is_one_sentence(tmp_path, results, server, capsys):
    assert main(["view", str(tmp_path), "--no-browser"]) == 2
    assert "holds no results" in capsys.readouterr().err
    assert main(["view", str(tmp_path / "none"), "--no-browser"]) == 2
    with pytest.raises(UsageError, match="Port"):
        Viewer(Results(results), server.server_port)


@pytest.fixture(scope="module")
def browser():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if shutil.which(name):
            return name
    pytest.skip("no Chromium here: install it to test the viewer's page")


def chromium(browser, tmp_path, url, *options):
    return subprocess.run(
        [
            browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1400,900", "--virtual-time-budget=20000", "--enable-logging=stderr",
            *options, url,
        ],
        capture_output=True, timeout=120, check=True,
    )  # fmt: skip


def test_the_page_works_in_a_browser(browser, server, tmp_path):
    """The script runs under the policy, the slide and its heatmap are drawn, regions are listed."""
    url = f"{server.url}view/sl%20ide"
    done = chromium(browser, tmp_path, url, "--dump-dom")
    page, log = done.stdout.decode(), done.stderr.decode()
    assert 'data-ready="yes"' in page, log[-2000:]
    assert "Content Security Policy" not in log
    assert "Uncaught" not in log
    assert page.count("<button><span>") >= 1
    picture = tmp_path / "page.png"
    chromium(browser, tmp_path, url, f"--screenshot={picture}")
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)[:, 300:]
    pinkish = (pixels[..., 0] > 120) & (pixels[..., 1] < pixels[..., 0] - 30)
    assert pinkish.mean() > 0.2, "the slide is not drawn"


def test_a_region_can_be_gone_to(browser, server, tmp_path):
    done = chromium(browser, tmp_path, f"{server.url}view/sl%20ide#1", "--dump-dom")
    page = done.stdout.decode()
    assert 'aria-current="true"' in page
    assert "Region 1: x " in page
    assert "100 µm" in page  # the scale bar of a view of 700 um
