"""Where reviewed places lie among the regions of a result, and among those of another reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_anomaly.calibration import smooth_scores
from wsi_anomaly.results.overlaps import Area, matched_pairs, meeting
from wsi_anomaly.results.reviews import Review, SlideReviews
from wsi_anomaly.results.stored_scores import StoredScores
from wsi_anomaly.scoring import AnomalousRegion, merge_regions
from wsi_anomaly.scoring.regions import smoothing_radius

LEAST_SHARE = 0.5
"""Of a region that a reviewed place must cover: a follicle leaves a larger region open."""


def regions_of(
    stored: StoredScores, which: NDArray[np.bool_] | None = None
) -> list[AnomalousRegion]:
    """Give the regions of a stored result, in the order of its report.

    Parameters
    ----------
    stored
        The result.
    which
        (N,) fields that make them; by default those that are flagged.
    """
    fields, flagged = stored.fields, stored.flagged if which is None else which
    smoothed = smooth_scores(fields.row, fields.col, stored.score, radius=smoothing_radius(fields))
    return merge_regions(fields, stored.score, smoothed, flagged, stored.mpp)


@dataclass(frozen=True, eq=False)
class Matched:
    """Reviews beside the regions of a result.

    Attributes
    ----------
    of_region
        By position of a region, the review that covers at least half of it.
    within
        Reviews that lie in a larger region, which they leave open.
    elsewhere
        Reviews of places that are not flagged (any more).
    """

    of_region: Mapping[int, Review]
    within: Sequence[Review]
    elsewhere: Sequence[Review]


def match_reviews(reviews: Sequence[Review], regions: Sequence[Area]) -> Matched:
    """Find reviewed places again among the regions of a result.

    Parameters
    ----------
    reviews
        What one reader decided, see :meth:`SlideReviews.of`.
    regions
        Outlines of the regions, level-0 pixels.
    """
    best: dict[int, tuple[float, int]] = {}
    inside: set[int] = set()
    if reviews and regions:
        places = np.asarray([review.outline for review in reviews], object)
        shapes = np.asarray(regions, object)
        mine, theirs = meeting(places.tolist(), shapes.tolist())
        shared = shapely.area(shapely.intersection(places[mine], shapes[theirs]))
        cover = shared / shapely.area(shapes[theirs])
        own = shared / shapely.area(places[mine])
        for i, k, share, of_place in zip(
            mine.tolist(), theirs.tolist(), cover.tolist(), own.tolist(), strict=True
        ):
            if share >= LEAST_SHARE:
                # Of several that cover a region the one most like it, then the latest.
                best[k] = max(best.get(k, (0.0, -1)), (round(share * of_place, 6), i))
            if of_place >= LEAST_SHARE:
                inside.add(i)
    used = {i for _, i in best.values()}
    left = [i for i in range(len(reviews)) if i not in used]
    return Matched(
        {k: reviews[i] for k, (_, i) in sorted(best.items())},
        [reviews[i] for i in left if i in inside],
        [reviews[i] for i in left if i not in inside],
    )


def decided_regions(
    folder: Path, summary: Mapping[str, Any], reviews: Sequence[Review]
) -> dict[int, Review]:
    """Find what one reader decided about the regions of a result, by number from 1.

    Parameters
    ----------
    folder, summary
        Results folder of the slide, and its summary.
    reviews
        The reader's, see :meth:`SlideReviews.of`.
    """
    if not reviews or not summary["flagged"]["regions"]:
        return {}
    if all(review.result == summary["result_hash"] for review in reviews):
        # Of this very result: nothing needs to be looked for.
        return {review.region: review for review in reviews if review.region is not None}
    regions = [region.outline for region in regions_of(StoredScores.read(folder))]
    found = match_reviews(reviews, regions).of_region
    return {number + 1: review for number, review in found.items()}


def reviewed_regions(
    folder: Path, summary: Mapping[str, Any], reviews: SlideReviews, reader: str | None = None
) -> int:
    """Count the regions of a result that somebody, or one reader, has reviewed.

    Parameters
    ----------
    folder, summary
        Results folder of the slide, and its summary.
    reviews
        Of the slide.
    reader
        Only this reader's.
    """
    names = reviews.readers if reader is None else [reader]
    return len({k for name in names for k in decided_regions(folder, summary, reviews.of(name))})


@dataclass(frozen=True, eq=False)
class Agreement:
    """Two readers side by side.

    Attributes
    ----------
    readers
        Their names.
    pairs
        What both decided about each place that both have reviewed.
    only
        Places that one alone has reviewed, in the order of `readers`.
    """

    readers: tuple[str, str]
    pairs: Sequence[tuple[Review, Review]]
    only: tuple[int, int]

    @property
    def agreed(self) -> int:
        """Places on which both have the same verdict."""
        return sum(a.verdict == b.verdict for a, b in self.pairs)

    def differing(self) -> list[tuple[Review, Review]]:
        """Places on which they differ."""
        return [(a, b) for a, b in self.pairs if a.verdict != b.verdict]

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa of the verdicts; None where it is not defined."""
        from sklearn.metrics import cohen_kappa_score

        first, second = (
            ([r.verdict for r in side] for side in zip(*self.pairs, strict=True))
            if self.pairs
            else ([], [])
        )
        if len({*first, *second}) < 2:
            return None  # one verdict for everything: there is nothing to agree on by chance
        return float(cohen_kappa_score(first, second))

    @property
    def table(self) -> Counter[tuple[str, str]]:
        """How often each pair of verdicts occurs."""
        return Counter((a.verdict, b.verdict) for a, b in self.pairs)


def agreement(slides: Sequence[SlideReviews], first: str, second: str) -> Agreement:
    """Compare what two readers decided about the same places of any number of slides."""
    pairs: list[tuple[Review, Review]] = []
    alone = [0, 0]
    for slide in slides:
        mine, theirs = slide.of(first), slide.of(second)
        found = matched_pairs([r.outline for r in mine], [r.outline for r in theirs])
        pairs += [(mine[i], theirs[k]) for i, k in found]
        alone[0] += len(mine) - len(found)
        alone[1] += len(theirs) - len(found)
    return Agreement((first, second), pairs, (alone[0], alone[1]))
