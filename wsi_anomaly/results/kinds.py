"""Kinds of flagged regions: those of all slides of a results folder, grouped by likeness.

Regions are alike when they deviate from normal tissue in the same direction
(:func:`wsi_anomaly.detectors.known.likeness`). HDBSCAN finds the groups and leaves alone what is
like no other.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.core.wording import counted
from wsi_anomaly.results.region_file import read_region_file
from wsi_anomaly.results.review_matching import decided_regions
from wsi_anomaly.results.reviews import Review, read_reviews
from wsi_anomaly.results.summary import read_summary

LEAST = 3
"""Regions that make a kind."""
MOST = 10_000
"""Regions that are grouped: a minute for so many."""
_AXES = 10
_LEAST_APART = 0.2  # silhouette: parts of one cloud of regions have up to 0.17
_GROWTH = 3.0  # a kind of n regions in all has at least sqrt(n) / 3


@dataclass(frozen=True, eq=False)
class Region:
    """One flagged region of a results folder.

    Attributes
    ----------
    folder, number
        Name of the slide's folder, and the region's number in its report, from 1.
    slide, area_mm2
        Name of the slide; area of tissue.
    result
        Hash of the result.
    vector, picture
        Direction (d,) in which it deviates; its highest field, a JPEG stream.
    """

    folder: str
    number: int
    slide: str
    area_mm2: float
    result: str
    vector: NDArray[np.float32]
    picture: bytes


@dataclass(frozen=True, eq=False)
class Kind:
    """Regions that are alike, the most typical first; `single`: those that are like no other."""

    regions: Sequence[Region]
    single: bool = False

    @property
    def slides(self) -> int:
        """Number of slides on which it lies."""
        return len({region.folder for region in self.regions})

    @property
    def name(self) -> str:
        """Identity by content, which a review of the whole kind carries."""
        members = sorted(f"{r.result} {r.number}" for r in self.regions)
        digest = hashlib.sha256("\n".join(members).encode()).hexdigest()[:10]
        return f"{'single' if self.single else 'kind'} {digest} of {len(members)} regions"


@dataclass(frozen=True, eq=False)
class Kinds:
    """All kinds of a results folder.

    Attributes
    ----------
    kinds
        The largest first, at last what is like no other; empty where nothing is flagged.
    left_out
        Flagged regions that are not grouped: of single tiles, of another model, beyond a limit.
    problems
        Sentences about results that cannot be read.
    """

    kinds: Sequence[Kind]
    left_out: int = 0
    problems: Sequence[str] = ()

    @property
    def grouped(self) -> int:
        """Number of regions in them."""
        return sum(len(kind.regions) for kind in self.kinds)


def find_kinds(results: Path) -> Kinds:
    """Group the flagged regions of all slides that the most common model has scored."""
    found: dict[tuple[str, int], list[Region]] = {}
    flagged, problems = 0, list[str]()
    if not results.is_dir():
        return Kinds([])
    for folder in sorted(p for p in results.iterdir() if p.is_dir() and p.name[0] != "."):
        summary = read_summary(folder) or {}
        try:
            count = int(summary["flagged"]["regions"])
            regions = _regions_of(folder, summary) if count else []
            model = str(summary["model"]["hash"])
        except OutputError as error:
            regions = []
            problems.append(str(error))
        except (LookupError, TypeError, ValueError):
            continue  # no result, or none that this program wrote
        flagged += count
        if regions:
            found.setdefault((model, len(regions[0].vector)), []).extend(regions)
    most = max(found.values(), key=len, default=[])[:MOST]
    return Kinds(_grouped(most), flagged - len(most), problems)


def _regions_of(folder: Path, summary: Mapping[str, Any]) -> list[Region]:
    beside = read_region_file(folder)
    if beside is None:
        return []
    areas = [float(region["area_mm2"]) for region in summary["regions"]]
    return [
        Region(
            folder.name, number, str(summary["slide"]["name"]), areas[number - 1],
            str(summary["result_hash"]), beside.vectors[i], beside.pictures[i],
        )
        for i, number in enumerate(beside.regions.tolist())
        if 0 < number <= len(areas)
    ]  # fmt: skip


def _grouped(regions: Sequence[Region]) -> list[Kind]:
    if not regions:
        return []
    vectors = np.stack([region.vector for region in regions])
    labels = alike(vectors)
    kinds = [
        Kind([regions[i] for i in _typical_first(vectors, np.flatnonzero(labels == label))])
        for label in range(int(labels.max()) + 1)
    ]
    single = [regions[i] for i in np.flatnonzero(labels < 0).tolist()]
    kinds.sort(key=lambda kind: -len(kind.regions))
    return [*kinds, Kind(single, single=True)] if single else kinds


def alike(vectors: NDArray[np.float32]) -> NDArray[np.intp]:
    """Find the kinds of directions (N, d): the number of each one's (N,), -1 for like no other."""
    from sklearn.cluster import HDBSCAN
    from sklearn.decomposition import PCA
    from sklearn.metrics import silhouette_score

    count = len(vectors)
    least = max(LEAST, round(count**0.5 / _GROWTH))
    if count < least:
        return np.full(count, -1, np.intp)
    axes = min(_AXES, count, vectors.shape[1])
    # In hundreds of dimensions all distances are alike.
    places = PCA(axes, svd_solver="full").fit_transform(vectors.astype(np.float64))
    made = HDBSCAN(least, min_samples=2, copy=True).fit_predict(places)
    apart = made >= 0
    if len(set(made[apart])) < 2 or silhouette_score(places[apart], made[apart]) < _LEAST_APART:
        made = HDBSCAN(least, min_samples=2, allow_single_cluster=True, copy=True).fit_predict(
            places
        )
    return np.asarray(made, np.intp)


def _typical_first(vectors: NDArray[np.float32], members: NDArray[np.intp]) -> list[int]:
    middle = vectors[members].mean(0)
    return [int(i) for i in members[np.argsort(-(vectors[members] @ middle), kind="stable")]]


def decided_in(
    results: Path, kinds: Kinds, reader: str | None = None
) -> dict[tuple[str, int], list[Review]]:
    """Say what readers, or one of them, decided about the regions: by folder and number."""
    out: dict[tuple[str, int], list[Review]] = {}
    for folder in sorted({region.folder for kind in kinds.kinds for region in kind.regions}):
        summary = read_summary(results / folder)
        if summary is None:
            continue
        found = read_reviews(results, str(summary["slide"]["fingerprint"]), reader)
        for name in found.readers:
            of_region = decided_regions(results / folder, summary, found.of(name))
            for number, review in of_region.items():
                out.setdefault((folder, number), []).append(review)
    return out


def title_of(kind: Kind, number: int, decided: Mapping[tuple[str, int], Sequence[Review]]) -> str:
    """Name a kind: by the finding, or the verdict, that most of its reviewed regions have."""
    plain = "Single: like no other" if kind.single else f"Kind {number}"
    made = [review for r in kind.regions for review in decided.get((r.folder, r.number), ())]
    if not made or kind.single:
        return plain
    names = Counter(" ".join(review.finding.split()) or review.verdict for review in made)
    name, count = names.most_common(1)[0]
    return f"{plain}: {name} ({count} of {counted(len(made), 'review')})"
