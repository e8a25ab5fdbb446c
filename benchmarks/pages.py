"""Lag of the pages in a headless Chromium: a worklist of 5,000 slides, a review of 2,000 regions.

    python benchmarks/pages.py [--slides 5000] [--regions 2000]
    python benchmarks/pages.py --like RESULTS [--slides 5000] [--animals 200] [--picture PNG]

Times are taken inside the page, from the event to the frame after it, or to what the page shows;
the first paint is the browser's own figure. They are medians of the rounds, beside the worst.

With --like the worklist is of copies of these results, under names and identities of their own with
their pictures and flagged regions, in place of made up ones; the page of kinds is written with it.
The review is left out then, and a study of --animals with two slides each is shown: results whose
names begin with n are its normal slides, those with x the lesions of some of the highest dose.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from common import finish, huge_slide, parser_of, peak_mb
from devtools import Browser, find_chromium
from driving import READY, serving
from PIL import Image
from score_map_fakes import fake_calibration, fake_score_map

from wsi_anomaly.options import ScoreOptions
from wsi_anomaly.reports import Worklist, write_results
from wsi_anomaly.reports.worklist_cases import note_cases
from wsi_anomaly.results.summary import FORMAT
from wsi_anomaly.scoring import ScoreMap, merge_regions
from wsi_anomaly.slides import open_slide
from wsi_anomaly.studies import Cohort, CohortSlide, write_cohort

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


def results_in(folder: Path, kind: str = "[!.]") -> list[Path]:
    """Folders of results whose name begins so."""
    return sorted(path.parent for path in folder.glob(f"{kind}*/summary.json"))


def copied(real: Sequence[Path], folder: Path, slides: int, name: str = "slide") -> None:
    """Make so many results of the ones that are there: pictures shared, summaries of their own."""
    facts = [json.loads((one / "summary.json").read_text(encoding="utf-8")) for one in real]
    for i in range(slides):
        out = folder / f"{name} {i}"
        out.mkdir(parents=True)
        for file in ("thumbnail.jpg", "regions.safetensors"):
            if (real[i % len(real)] / file).is_file():
                os.link(real[i % len(real)] / file, out / file)
        own = dict(facts[i % len(real)])
        own["slide"] = own["slide"] | {"name": out.name, "path": f"/{out.name}.tif"}
        own["slide"]["fingerprint"] = own["result_hash"] = f"{name[0]}{i:015x}"
        if own["slide_score"] is not None:
            own["slide_score"] += i * 7919 % slides / 1e3 / slides
        (out / "summary.json").write_text(json.dumps(own), encoding="utf-8")


def made_up(folder: Path, slides: int) -> None:
    """Write so many summaries, and nothing else."""
    for i in range(slides):
        (folder / f"slide {i}").mkdir(parents=True, exist_ok=True)
        facts = {
            "format": FORMAT, "status": "done", "slide": {"name": f"slide {i}"},
            "slide_score": i * 7919 % slides / 100, "mean_of_top_tenth": 1.5, "tissue_mm2": 90.0,
            "not_assessed_mm2": 0.5, "warnings": ["It is redder than normal slides."] * (i % 2),
            "flagged": {"possible": True, "regions": i % 5, "area_mm2": i % 5 / 10},
        }  # fmt: skip
        (folder / f"slide {i}" / "summary.json").write_text(json.dumps(facts), encoding="utf-8")


def worklist(
    page: Browser, folder: Path, slides: int, rounds: int, *, cases: bool, like: Path | None = None
) -> Any:
    """Write a worklist, open it, search it, filter it, sort it."""
    if like is None:
        made_up(folder, slides)
    else:
        copied(results_in(like), folder, slides)
    if cases:
        note_cases(folder, {f"slide {i}": f"animal {i // 4}" for i in range(slides)})
    before, began = peak_mb(), time.process_time()
    with Worklist(folder):
        pass  # its end writes it, with the page of kinds
    written = {
        "cpu_s_to_write": round(time.process_time() - began, 1),
        "peak_mb_before": round(before), "peak_mb": round(peak_mb()),
        **{f"{name}_mb": round((folder / name).stat().st_size / 1e6, 1)
           for name in ("index.html", "kinds.html", "slides.csv") if (folder / name).is_file()},
    }  # fmt: skip
    url = (folder / "index.html").as_uri()
    paints = []
    for _ in range(rounds):
        page.open("about:blank", "location.href === 'about:blank'")
        page.open(url, f"document.getElementById('shown')?.textContent.length > 0 && {PAINT} > 0")
        paints.append(float(page.value(PAINT)))
    words = ("slide 12", "", "redder", "slide 4999", "")
    return {
        **written,
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


def study(page: Browser, folder: Path, animals: int, like: Path, picture: Path | None) -> Any:
    """Write the page of a study: four groups, of each animal a slide of either organ.

    Lesions are in the highest dose's liver alone, in those of its animals whose turn it is.
    """
    slides, listed = 2 * animals, list[CohortSlide]()
    copied(results_in(like, "n"), folder, slides)
    groups = ("control", "low dose", "middle dose", "high dose")
    for i in range(slides):
        animal, organ = i // 2, ("liver", "kidney")[i % 2]
        group = groups[animal * len(groups) // animals]
        listed.append(CohortSlide(folder / f"slide {i}", f"r{animal:03}", group, organ))
    ill = [s for s in listed if (s.group, s.organ) == (groups[-1], "liver")][::2]
    copied(results_in(like, "x"), folder, len(ill), "lesion")
    places = {s.path: s.path for s in listed}
    places |= {s.path: folder / f"lesion {i}" for i, s in enumerate(ill)}
    began, before = time.process_time(), peak_mb()
    written = write_cohort(
        folder, Cohort(tuple(listed), groups[0]), places, table=Path("study.csv"),
        models={"liver": "liver", "kidney": "kidney"}, options=ScoreOptions(),
    )  # fmt: skip
    taken = time.process_time() - began
    page.open(written.as_uri(), f"document.readyState === 'complete' && {PAINT} > 0")
    if picture is not None:
        page.look(1400, 1100)
        Image.fromarray(page.picture()).save(picture)
    return {
        "slides": slides, "cpu_s_to_write": round(taken, 1), "peak_mb_before": round(before),
        "peak_mb": round(peak_mb()), "cohort.html_mb": round(written.stat().st_size / 1e6, 2),
        "first_paint_s": round(float(page.value(PAINT)) / 1000, 2),
    }  # fmt: skip


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
    parser.add_argument("--like", type=Path, help="results that the worklist's are copies of")
    parser.add_argument("--animals", type=int, default=200)
    parser.add_argument("--picture", type=Path, help="write what the study's page shows here")
    arguments = parser.parse_args()
    chromium = find_chromium()
    if chromium is None:
        sys.exit("There is no Chromium here; install it.")
    work = Path(tempfile.mkdtemp(dir=arguments.like and arguments.like.parent))  # links lead there
    try:
        with Browser(chromium, work / "profile") as page:
            found: dict[str, Any] = {"slides": arguments.slides}
            for name, cases in (("worklist", False), ("worklist_by_case", True)):
                found[name] = worklist(
                    page, work / name, arguments.slides, arguments.rounds, cases=cases,
                    like=arguments.like,
                )  # fmt: skip
            if arguments.like is not None:
                found["study"] = study(
                    page, work / "study", arguments.animals, arguments.like, arguments.picture
                )
            else:
                found["review"] = review(page, work, arguments.regions, 5 * arguments.rounds)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    finish(found, arguments.json)


if __name__ == "__main__":
    main()
