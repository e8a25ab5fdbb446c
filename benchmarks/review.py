"""What ten reviewed slides save, and what they cost: flags and lesions on slides not seen.

    python benchmarks/review.py [--seeds 5]

Cohorts of drawn embeddings, not of slides: each region is a cloud of fields round a middle of its
own, the middles of one kind lie round that kind's. Two harmless variants and one lesion; the first
variant overlaps the lesion as far as a ROC AUC of the very directions allows that are looked at
(it is reported, and at most 0.9 by the choice of the distance). Ten slides of ten cases are
reviewed, forty others are not seen. "Wrong" is the share of reviews with the other verdict.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from common import finish, parser_of
from numpy.typing import NDArray

from wsi_anomaly.detectors.known import Finding, Known

WIDTH, FIELDS = 64, 12
REVIEWED, UNSEEN = 10, 40
A_SLIDE = {"first variant": 3, "second variant": 3, "lesion": 2}
BETWEEN_REGIONS, BETWEEN_FIELDS = 0.2, 0.8
KINDS = tuple(A_SLIDE)


@dataclass(frozen=True)
class Region:
    """A drawn region: what it is, of which slide, and its fields (n, d)."""

    kind: str
    slide: int
    vectors: NDArray[np.float32]


def drawn(seed: int, overlap: float) -> list[Region]:
    """Draw a cohort; `overlap` is the share of the lesion's direction in the first variant's."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(WIDTH, 3)))[0].T
    middle = {"lesion": axes[0], "second variant": axes[2]}
    middle["first variant"] = overlap * axes[0] + np.sqrt(1 - overlap**2) * axes[1]
    regions = []
    for slide in range(REVIEWED + UNSEEN):
        for kind, count in A_SLIDE.items():
            for _ in range(count):
                own = middle[kind] + BETWEEN_REGIONS * rng.normal(size=WIDTH) / np.sqrt(WIDTH)
                noise = BETWEEN_FIELDS * rng.normal(size=(FIELDS, WIDTH)) / np.sqrt(WIDTH)
                fields = own + noise
                fields /= np.linalg.norm(fields, axis=1, keepdims=True)
                regions.append(Region(kind, slide, fields.astype(np.float32)))
    return regions


def separation(regions: list[Region]) -> float:
    """ROC AUC of lesion against first variant, by a field's projection on the line between both.

    The line is that of the reviewed slides, the fields are of the others.
    """
    from sklearn.metrics import roc_auc_score

    def fields(kind: str, seen: bool) -> NDArray[np.float32]:
        return np.concatenate(
            [r.vectors for r in regions if r.kind == kind and (r.slide < REVIEWED) == seen]
        )

    line = fields("lesion", True).mean(0) - fields("first variant", True).mean(0)
    lesion, variant = fields("lesion", False) @ line, fields("first variant", False) @ line
    truth = np.r_[np.ones(len(lesion)), np.zeros(len(variant))]
    return float(roc_auc_score(truth, np.r_[lesion, variant]))


def learned(regions: list[Region], wrong: float, seed: int) -> Known:
    """Learn from the first ten slides, some reviews with the other verdict."""
    rng = np.random.default_rng(1000 + seed)
    classes: dict[tuple[str, bool], list[Region]] = {}
    for region in (r for r in regions if r.slide < REVIEWED):
        kind, harmless = region.kind, region.kind != "lesion"
        if rng.random() < wrong:
            kind = "first variant" if kind == "lesion" else "lesion"
            harmless = not harmless
        classes.setdefault((kind, harmless), []).append(region)
    return Known.of(
        [
            Finding(
                kind, harmless, np.concatenate([r.vectors for r in members]),
                np.repeat(np.arange(len(members)), FIELDS),
                tuple(str(r.slide) for r in members),
            )
            for (kind, harmless), members in classes.items()
        ]
    )  # fmt: skip


def one(seed: int, overlap: float, wrong: float) -> dict[str, float]:
    """Flags that go, and lesions that go with them, in per cent of the unseen slides'."""
    regions = drawn(seed, overlap)
    known = learned(regions, wrong, seed)
    gone: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    for region in (r for r in regions if r.slide >= REVIEWED):
        like = known.like(region.vectors)
        gone[region.kind].append(like is not None and like.taken_away)
    harmless = gone["first variant"] + gone["second variant"]
    return {
        "AUC": separation(regions),
        **{f"{kind} gone %": 100 * float(np.mean(gone[kind])) for kind in KINDS},
        "harmless flags gone %": 100 * float(np.mean(harmless)),
    }


def main() -> None:
    """Measure each setting: means over the seeds."""
    parser = parser_of(__doc__, None)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    rows = []
    for overlap in (0.0, 0.97, 0.98):
        for wrong in (0.0, 0.1):
            found = [one(seed, overlap, wrong) for seed in range(arguments.seeds)]
            mean = {key: round(float(np.mean([f[key] for f in found])), 3) for key in found[0]}
            worst = max(f["lesion gone %"] for f in found)
            rows.append({"overlap": overlap, "wrong": wrong, **mean, "worst lesion gone %": worst})
            print(rows[-1], flush=True)
    finish({"settings": rows}, arguments.json)


if __name__ == "__main__":
    main()
