"""What ten reviewed slides save on drawn slides, from slide to worklist: flags and lesions.

    python benchmarks/review_slides.py FOLDER --seeds 0 1 2 3 4

Slides with lymph follicles, glands that regenerate (both harmless) and lesions. A model learns and
calibrates on normal ones, once; each seed is another cohort. A simulated reader, who knows the
truth, reviews every flagged region of ten slides, in the files that the viewer writes; ``learn``
takes them, and ``score`` looks at slides that nobody has seen. Again with one review in ten wrong.
FOLDER keeps what is done. "AUC": a field of a lesion against one of regenerating glands, by the
very vectors that ``learn`` compares; along the line between both means, and by logistic regression,
each learned from the other cases.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from common import finish, parser_of
from numpy.typing import NDArray

import wsi_anomaly
from wsi_anomaly.core.files import write_json
from wsi_anomaly.detectors.known import Known
from wsi_anomaly.results.overlaps import Area
from wsi_anomaly.results.review_matching import regions_of
from wsi_anomaly.results.reviews import FOLDER, Review, append_review
from wsi_anomaly.results.stored_scores import StoredScores
from wsi_anomaly.results.summary import read_summary
from wsi_anomaly.synthetic import make_slide

SIDE_PX, MPP, NORMAL = 3600, 0.5, 14
REVIEWED, UNSEEN = 10, 12
LESION_MM2 = 0.2
LESION, VARIANTS = "lesion", ("follicle", "reactive glands")
_A_LESION = 0.1  # of a region: a reader who sees so much of one calls the region abnormal


def normal_model(folder: Path) -> Path:
    """Learn and calibrate on normal slides, once."""
    model = folder / "model"
    if not (model / "model.json").is_file():
        for i in range(NORMAL):
            path = folder / "normal" / f"n{i}.tif"
            if not path.is_file():
                make_slide(path, seed=50_000 + i, size_px=(SIDE_PX, SIDE_PX), mpp=MPP)
        (folder / "density.toml").write_text('detector = "density"\nbeside = []\n')
        wsi_anomaly.tile(folder / "normal", folder / "tiles", workers=1)
        wsi_anomaly.train(folder / "tiles", model, str(folder / "density.toml"))
    return model


def drawn(folder: Path, seed: int) -> list[Path]:
    """Draw a cohort, every second slide with lesions; their truth lies beside them."""
    paths = []
    for i in range(REVIEWED + UNSEEN):
        path = folder / "slides" / f"s{i:02}.tif"
        paths.append(path)
        if path.with_suffix(".json").is_file():
            continue
        made = make_slide(
            path, seed=60_000 + 100 * seed + i, size_px=(SIDE_PX, SIDE_PX), mpp=MPP,
            lesions="medium" if i % 2 else None, lesion_mm2=LESION_MM2,
            variants=1 if i % 2 else 2,
        )  # fmt: skip
        truth = {LESION: made.lesions, VARIANTS[0]: made.follicles, VARIANTS[1]: made.reactive}
        write_json(
            path.with_suffix(".json"),
            {kind: [outline.polygon.wkt for outline in of] for kind, of in truth.items()},
        )
    return paths


def truth_of(slide: Path) -> dict[str, list[Area]]:
    """What is drawn on a slide, by kind."""
    read = json.loads(slide.with_suffix(".json").read_text())
    return {kind: [shapely.from_wkt(text) for text in of] for kind, of in read.items()}


def kind_of(region: Area, truth: dict[str, list[Area]]) -> str:
    """Say what a reader who knows the truth calls a region; "" for ordinary tissue."""
    share = {
        kind: shapely.union_all(of).intersection(region).area / region.area if of else 0.0
        for kind, of in truth.items()
    }
    if share[LESION] >= _A_LESION:
        return LESION
    best = max(share, key=lambda kind: share[kind])
    return best if share[best] > 0 else ""


def review(results: Path, slides: Sequence[Path], wrong: float, seed: int) -> int:
    """Review every flagged region; some decisions are the opposite of the truth."""
    rng = np.random.default_rng(7000 + seed)
    reviewed = 0
    for slide in slides:
        summary = read_summary(results / slide.stem)
        for region in regions_of(StoredScores.read(results / slide.stem)):
            kind = kind_of(region.outline, truth_of(slide))
            abnormal = kind == LESION
            if rng.random() < wrong:
                abnormal = not abnormal
                kind = LESION if abnormal else VARIANTS[1]
            append_review(
                results,
                Review(
                    "reader", slide.stem, summary["slide"]["fingerprint"],
                    "abnormal" if abnormal else "normal variant", region.outline, finding=kind,
                ),
            )  # fmt: skip
            reviewed += 1
    return reviewed


def on_unseen(slides: Sequence[Path], model: Path, results: Path) -> dict[str, int]:
    """Count flags and lesions of unseen slides, before reviews and after them."""
    counts = dict.fromkeys(
        f"{what}, {when}" for what in ("lesions", "ordinary", *VARIANTS, LESION)
        for when in ("before", "after")
    )  # fmt: skip
    counted: dict[str, int] = dict.fromkeys(counts, 0) | {"lesions": 0}
    for outcome in wsi_anomaly.score(list(slides), model, results, workers=1):
        assert outcome.result is not None, outcome.error
        meaning, truth = outcome.result.interpretation, truth_of(outcome.job.slide)
        after = [region.outline for region in meaning.regions]
        before = after + [region.outline for region, _ in meaning.taken_away]
        counted["lesions"] += len(truth[LESION])
        for when, regions in (("before", before), ("after", after)):
            touched = shapely.union_all(regions)
            counted[f"lesions, {when}"] += sum(map(touched.intersects, truth[LESION]))
            for region in regions:
                counted[f"{kind_of(region, truth) or 'ordinary'}, {when}"] += 1
    return counted


def separation(known: Known) -> tuple[float, float]:
    """ROC AUC of lesion fields against those of regenerating glands, each of a case left out."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    of = {finding.name: finding for finding in known.findings}
    parts = [of[LESION], of[VARIANTS[1]]]
    vectors = np.concatenate([part.vectors for part in parts])
    truth = np.repeat([1, 0], [len(part.vectors) for part in parts])
    cases = np.concatenate([np.array(part.cases)[part.region] for part in parts])
    along: NDArray[np.float64] = np.zeros((2, len(truth)))
    for case in np.unique(cases):
        mine = cases == case
        x, y = vectors[~mine], truth[~mine]
        along[0, mine] = vectors[mine] @ (x[y == 1].mean(0) - x[y == 0].mean(0))
        fitted = LogisticRegression(C=1.0, max_iter=1000, class_weight="balanced").fit(x, y)
        along[1, mine] = fitted.decision_function(vectors[mine])
    return tuple(float(roc_auc_score(truth, scores)) for scores in along)  # type: ignore[return-value]


def one(folder: Path, seed: int, wrong: float) -> dict[str, Any]:
    """One cohort, one share of wrong reviews; what was measured before is read."""
    own = folder / f"cohort_{seed}"
    kept = own / f"figures_{wrong}.json"
    if kept.is_file():
        return dict(json.loads(kept.read_text()))
    model, slides = normal_model(folder), drawn(own, seed)
    results, learned = own / f"results_{wrong}", own / f"learned_{wrong}"
    first = own / "results"
    for outcome in wsi_anomaly.score(slides[:REVIEWED], model, first, workers=1):
        assert outcome.result is not None, outcome.error
    shutil.rmtree(results, ignore_errors=True)
    shutil.copytree(first, results, ignore=shutil.ignore_patterns(FOLDER))
    reviews = review(results, slides[:REVIEWED], wrong, seed)
    made = wsi_anomaly.learn(results, model, output=learned)
    found: dict[str, Any] = {"seed": seed, "wrong": wrong, "reviews": reviews}
    if not wrong:
        found["AUC, line"], found["AUC, logistic"] = separation(made.known)
    found |= on_unseen(slides[REVIEWED:], learned, own / f"unseen_{wrong}")
    write_json(kept, found)
    return found


def main() -> None:
    """Measure each cohort; print each, then the sums."""
    parser = parser_of(__doc__, None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    arguments = parser.parse_args()
    rows, sums = [], []
    for wrong in (0.0, 0.1):
        of = [one(arguments.folder, seed, wrong) for seed in arguments.seeds]
        rows += of
        total = {key: sum(row[key] for row in of) for key in of[0] if key not in ("seed", "wrong")}
        before, after = (
            sum(total[f"{kind}, {when}"] for kind in (*VARIANTS, "ordinary"))
            for when in ("before", "after")
        )
        lost = [100 * (r["lesions, before"] - r["lesions, after"]) / r["lesions"] for r in of]
        sums.append(
            {
                "wrong": wrong,
                "flags that are no lesion, before and after": [before, after],
                "fall %": round(100 * (1 - after / max(before, 1)), 1),
                "lesions found, points fewer": round(
                    100 * (total["lesions, before"] - total["lesions, after"]) / total["lesions"], 2
                ),
                "worst seed": round(max(lost), 2),
            }
        )
        print(sums[-1], flush=True)
    finish({"cohorts": rows, "sums": sums}, arguments.json)


if __name__ == "__main__":
    main()
