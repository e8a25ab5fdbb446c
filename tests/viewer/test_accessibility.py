"""axe-core finds nothing in any page; ``make accessibility`` gets it from npm."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from devtools import Browser, wait_for
from driving import READY, cohort_page, serving

from wsi_anomaly.evaluation.report import write_evaluation
from wsi_anomaly.evaluation.run import evaluate
from wsi_anomaly.options import EvaluateOptions
from wsi_anomaly.reports import Worklist
from wsi_anomaly.viewer.server import Viewer

AXE = Path(os.environ.get("WSI_ANOMALY_AXE", "build/axe")) / "node_modules/axe-core/axe.min.js"
PAGES = {  # address: true once the page is whole
    "results/index.html": "document.getElementById('shown')?.textContent.length > 0",
    "results/slide/report.html": "document.readyState === 'complete'",
    "results/kinds.html": "document.querySelectorAll('figure').length > 1",
    "results/cohort.html": "document.readyState === 'complete'",
    "evaluation/evaluation.html": "document.readyState === 'complete'",
    "view:": "document.querySelector('table') !== null",
    "view:view/slide": READY,
    "view:kinds": READY,
    "view:readers": "document.querySelectorAll('table').length > 0",
}


@pytest.fixture(scope="module")
def axe() -> str:
    if not AXE.is_file():
        pytest.skip("no axe-core here: run 'make accessibility', which gets it from npm")
    return AXE.read_text(encoding="utf-8")


@pytest.fixture
def server(results: Path, browser: Browser) -> Iterator[Viewer]:
    """Serve a results folder with one page of each kind; two readers differ on its slide."""
    with Worklist(results) as worklist:
        worklist.failed("/slides/lung.svs", "The file is truncated.")
    cohort_page(results)
    scores = results.parent / "scores.csv"
    lines = [f"s{i % 3},{i * 7 % 11},{int(i % 2 and i % 3 > 0)}" for i in range(60)]
    scores.write_text("\n".join(["slide,score,label", *lines]), encoding="utf-8")
    write_evaluation(results.parent / "evaluation", evaluate(None, EvaluateOptions(scores=scores)))
    for reader, key in (("ann", "a"), ("bob", "x")):
        with serving(results, reader) as server:
            browser.open(f"{server.url}view/slide", READY)
            browser.press("n")
            browser.press(key)
            saved = "document.querySelector('#saved').textContent.startsWith('Saved')"
            wait_for(lambda: browser.value(saved), "the verdict to be saved")  # noqa: B023
            if reader == "bob":
                summary = server.results.summary("slide")
                fat = {"kind": "Fat", "points": [[100, 500], [400, 500], [400, 800], [100, 800]]}
                server.marking.change("slide", {"result": summary["result_hash"], **fat})
                yield server


@pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("dark", 1400), ("light", 390)])
def test_axe_finds_nothing(
    axe: str, browser: Browser, server: Viewer, results: Path, scheme: str, width: int
) -> None:
    browser.look(width, 844, scheme=scheme)
    found = []
    for page, ready in PAGES.items():
        browser.open("about:blank", "location.href === 'about:blank'")
        served = page.removeprefix("view:")
        there = (results.parent / page).as_uri() if served == page else server.url + served
        browser.open(there, ready)
        browser.value(f"{axe}; null")
        found += [f"{page}: {line}" for line in violations(browser)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("dark", 1400), ("light", 390)])
def test_axe_finds_nothing_while_a_mark_is_drawn_and_named(
    axe: str, browser: Browser, server: Viewer, scheme: str, width: int
) -> None:
    browser.look(width, 844, scheme=scheme)
    browser.open("about:blank", "location.href === 'about:blank'")
    browser.open(f"{server.url}view/slide", READY)
    browser.value(f"{axe}; null")
    browser.press("m")
    found = violations(browser)
    for key in (" ", "ArrowRight", " ", "ArrowUp", " ", "Enter"):
        browser.press(key)
    assert not browser.value("document.querySelector('#naming').hidden")
    found += violations(browser)
    assert not found, "\n".join(found)


def violations(page: Browser) -> list[str]:
    """What axe-core finds, the moderate and minor too, a line each."""
    text = page.value("axe.run().then(({violations}) => JSON.stringify(violations))")
    made: list[dict[str, Any]] = json.loads(text)
    return [
        f"{rule['impact']} {rule['id']}: {node['html'][:120]} {node['failureSummary']}"
        for rule in made
        for node in rule["nodes"][:3]
    ]
