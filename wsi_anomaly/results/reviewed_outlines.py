"""What readers agree on, and its outlines as files that ``tile`` and ``evaluate`` take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wsi_anomaly.annotations import Outline, write_geojson
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.files import make_folder
from wsi_anomaly.results.overlaps import matched_pairs
from wsi_anomaly.results.reviews import HARMLESS, Review, SlideReviews, read_reviews
from wsi_anomaly.results.summary import read_summary, result_names

Note = Callable[[str], None]


def agreed(reviews: SlideReviews, note: Note) -> list[Review]:
    """Places that somebody has called harmless or abnormal, and nobody the opposite."""
    kept: list[Review] = []
    for reader in reviews.readers:
        mine = [review for review in reviews.of(reader) if review.verdict != "unsure"]
        pairs = matched_pairs([r.outline for r in kept], [r.outline for r in mine])
        differ = {i for i, k in pairs if _harmless(kept[i]) != _harmless(mine[k])}
        for i in sorted(differ):
            note(f"A region of {kept[i].slide} is left out: {kept[i].reader} and {reader} differ.")
        same = {k for _, k in pairs}
        kept = [review for i, review in enumerate(kept) if i not in differ]
        kept += [review for k, review in enumerate(mine) if k not in same]
    return kept


def _harmless(review: Review) -> bool:
    return review.verdict in HARMLESS


def write_outlines(results: Path, folder: Path, note: Note) -> list[Path]:
    """Write what was reviewed, a GeoJSON file for each slide that has some.

    Outlines are labelled by their verdict, such as ``Abnormal``.

    Raises
    ------
    UsageError
        Two slides have one file name.
    OutputError
        A file cannot be written.
    """
    written: dict[Path, str] = {}
    for name in result_names(results):
        summary = read_summary(results / name)
        if summary is None:
            continue
        facts = summary["slide"]
        reviews = read_reviews(results, str(facts["fingerprint"]))
        for problem in reviews.problems:
            note(problem)
        outlines = [
            Outline(review.verdict.capitalize(), review.outline) for review in agreed(reviews, note)
        ]
        slide = str(facts["path"])
        path = make_folder(folder) / f"{Path(slide).stem}.geojson"
        if path in written:
            raise UsageError(
                f"{written[path]} and {slide} would both have {path}; rename one of them."
            )
        if outlines:
            written[path] = slide
            write_geojson(path, outlines, Path(slide).name, corner=(0.0, 0.0))
    return list(written)
