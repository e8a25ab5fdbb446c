"""Lag of the pages in a headless Chromium: a worklist of 5,000 slides, a review of 2,000 regions.

    python benchmarks/pages.py [--slides 5000] [--regions 2000]

Times are taken inside the page, from the event to the frame after it, or to what the page shows;
the first paint is the browser's own figure. They are medians of the rounds, beside the worst.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from common import finish, huge_slide, parser_of
from devtools import Browser, find_chromium
from driving import READY, serving
from score_map_fakes import fake_calibration, fake_score_map

from wsi_anomaly.reports import write_results, write_worklist
from wsi_anomaly.reports.worklist_cases import note_cases
from wsi_anomaly.results.summary import FORMAT
from wsi_anomaly.scoring import ScoreMap, merge_regions
from wsi_anomaly.slides import open_slide

PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
# Milliseconds from doing something to the frame that shows it.
TO_FRAME = """new Promise((done) => {{ const began = performance.now(); {act};
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - began))); }})"""
# Milliseconds from a key to what the page says once the decision is on the disk.
TO_SAVED = """new Promise((done) => {{ const said = document.querySelector('#saved');
    said.textContent = ''; const began = performance.now();
    new MutationObserver((_, watch) => {{ if (said.textContent.startsWith('Saved')) {{
        watch.disconnect(); done(performance.now() - began);
    }} }}).observe(said, {{childList: true}});
    const about = {{key: '{key}', bubbles: true}};
    document.body.dispatchEvent(new KeyboardEvent('keydown', about)); }})"""


def typed(words: str) -> str:
    """Give the script that types into the search."""
    return f"search.value = '{words}'; search.dispatchEvent(new Event('input'))"


def clicked(selector: str) -> str:
    """Give the script that clicks."""
    return f"document.querySelector('{selector}').click()"


def times(page: Browser, scripts: Callable[[int], str], rounds: int) -> dict[str, float]:
    """Median and worst of what scripts measure, ms."""
    found = [float(page.value(scripts(i))) for i in range(rounds)]
    return {"median_ms": round(median(found), 1), "worst_ms": round(max(found), 1)}


def worklist(page: Browser, folder: Path, slides: int, rounds: int, *, cases: bool) -> Any:
    """Open a worklist, search it, filter it, sort it."""
    for i in range(slides):
        (folder / f"slide {i}").mkdir(parents=True, exist_ok=True)
        facts = {
            "format": FORMAT, "status": "done", "slide": {"name": f"slide {i}"},
            "slide_score": i * 7919 % slides / 100, "mean_of_top_tenth": 1.5, "tissue_mm2": 90.0,
            "not_assessed_mm2": 0.5, "warnings": ["It is redder than normal slides."] * (i % 2),
            "flagged": {"possible": True, "regions": i % 5, "area_mm2": i % 5 / 10},
        }  # fmt: skip
        (folder / f"slide {i}" / "summary.json").write_text(json.dumps(facts), encoding="utf-8")
    if cases:
        note_cases(folder, {f"slide {i}": f"animal {i // 4}" for i in range(slides)})
    url = write_worklist(folder).as_uri()
    paints = []
    for _ in range(rounds):
        page.open("about:blank", "location.href === 'about:blank'")
        page.open(url, f"document.getElementById('shown')?.textContent.length > 0 && {PAINT} > 0")
        paints.append(float(page.value(PAINT)))
    words = ("slide 12", "", "redder", "slide 4999", "")
    return {
        "first_paint_s": round(median(paints) / 1000, 2),
        "search": times(page, lambda i: TO_FRAME.format(act=typed(words[i % 5])), 2 * rounds),
        "filter": times(
            page,
            lambda i: TO_FRAME.format(act=clicked(f"[data-kind={('flagged', 'all')[i % 2]}]")),
            rounds,
        ),
        "sort": times(
            page,
            lambda i: TO_FRAME.format(act=clicked(f".worklist th:nth-child({4 + i % 3}) button")),
            rounds,
        ),
    }


def many_regions(slide: Path, least: int) -> ScoreMap:
    """Make up a score map in which at least so many places of 2 x 2 fields are flagged."""
    side = 6 * (int(least**0.5) + 1)
    score_map = fake_score_map(
        0, shape=(side, side), slide=slide, lesions=0, missing=0, density=1,
        calibration=fake_calibration(),
    )  # fmt: skip
    fields, found, mpp = score_map.fields, score_map.interpretation, score_map.slide.mpp
    flagged = (fields.row % 6 // 2 == 1) & (fields.col % 6 // 2 == 1)
    score = score_map.scores["dpa"]
    score[flagged] += 1
    regions = merge_regions(fields, score, found.smoothed, flagged, (mpp.x, mpp.y))
    return replace(score_map, interpretation=replace(found, flagged=flagged, regions=regions))


def review(page: Browser, folder: Path, regions: int, rounds: int) -> Any:
    """Open a slide with many regions and review one after the other."""
    slide = huge_slide(folder / "slide.tif", side=6 * (int(regions**0.5) + 1) * 128, mpp=0.5)
    score_map = many_regions(slide, regions)
    with open_slide(slide, mpp=0.5) as opened:
        write_results(score_map, opened, folder / "results" / "slide", heatmap=False)
    paints, ready = [], []
    with serving(folder / "results", "ann") as server:
        for _ in range(3):
            page.open("about:blank", "location.href === 'about:blank'")
            page.send(
                "Page.addScriptToEvaluateOnNewDocument",
                source="new MutationObserver(() => { if (document.body?.dataset.ready === 'yes' &&"
                " !window.drawn) window.drawn = performance.now(); }).observe(document,"
                " {subtree: true, attributes: true});",
            )
            page.open(f"{server.url}view/slide", f"{READY} && {PAINT} > 0")
            paints.append(float(page.value(PAINT)))
            ready.append(float(page.value("window.drawn")))

        def decide(i: int) -> str:
            page.press("n")
            return TO_SAVED.format(key="avxs"[i % 4])

        return {
            "regions": len(score_map.interpretation.regions),
            "first_paint_s": round(median(paints) / 1000, 2),
            "drawn_s": round(median(ready) / 1000, 2),
            "key_to_saved": times(page, decide, rounds),
        }


def main() -> None:
    """Measure both."""
    parser = parser_of(__doc__, 20)
    parser.add_argument("--slides", type=int, default=5000)
    parser.add_argument("--regions", type=int, default=2000)
    arguments = parser.parse_args()
    chromium = find_chromium()
    if chromium is None:
        sys.exit("There is no Chromium here; install it.")
    work = Path(tempfile.mkdtemp())
    try:
        with Browser(chromium, work / "profile") as page:
            found = {
                "slides": arguments.slides,
                "worklist": worklist(
                    page, work / "flat", arguments.slides, arguments.rounds, cases=False
                ),
                "worklist_by_case": worklist(
                    page, work / "cases", arguments.slides, arguments.rounds, cases=True
                ),
                "review": review(page, work, arguments.regions, 5 * arguments.rounds),
            }
    finally:
        shutil.rmtree(work, ignore_errors=True)
    finish(found, arguments.json)


if __name__ == "__main__":
    main()
