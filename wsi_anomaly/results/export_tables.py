"""A slide's result as columns: its fields, its regions, and one row of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.core.extras import import_extra
from wsi_anomaly.results.colors import TILE_CLASSES, classes_of
from wsi_anomaly.results.review_matching import match_reviews, regions_of
from wsi_anomaly.results.reviews import Review, SlideReviews, read_reviews
from wsi_anomaly.results.stored_scores import StoredScores
from wsi_anomaly.results.summary import read_summary
from wsi_anomaly.scoring import AnomalousRegion
from wsi_anomaly.tiles import Status

MEANINGS = ("smoothed", "percentile", "z", "p_value")
DIFFERING = "readers differ"


@dataclass(frozen=True, eq=False)
class Words:
    """A column of few texts: indices (N,) into them."""

    index: NDArray[np.integer]
    texts: Sequence[str]


Columns = Mapping[str, "NDArray[Any] | Words | list[str]"]


@dataclass(frozen=True, eq=False)
class SlideTables:
    """Columns of one slide.

    Attributes
    ----------
    fields, regions, slides
        By name; each of a table's columns has a row a field, a region, or the one slide.
    """

    fields: Columns
    regions: Columns
    slides: Columns


def package(name: str) -> Any:
    """Import a package that exporting needs.

    Raises
    ------
    UsageError
        It is not installed.
    """
    return import_extra(name, "export", "Exporting")


def frame_of(columns: Columns) -> Any:
    """Columns as a DataFrame of pandas; those of few texts are categories."""
    table = package("pandas").DataFrame(
        {
            name: np.asarray(v.texts, object)[v.index] if isinstance(v, Words) else v
            for name, v in columns.items()
        }
    )
    for name, values in columns.items():
        if isinstance(values, Words):
            table[name] = table[name].astype("category")
    return table


def slide_tables(results: Path, name: str, methods: Sequence[str]) -> SlideTables:
    """Read a slide's result as columns.

    Parameters
    ----------
    results, name
        Folder of results, and the slide's folder in it.
    methods
        Methods that get a column of raw scores; NaN where a model has others.

    Raises
    ------
    OutputError
        The result is missing or damaged.
    """
    folder = results / name
    summary = read_summary(folder)
    if summary is None:
        raise OutputError(f"{folder} holds no result that can be read; score the slide again.")
    stored = StoredScores.read(folder)
    regions = regions_of(stored)
    reviews = read_reviews(results, str(summary["slide"]["fingerprint"]))
    said = _said(reviews, regions)
    return SlideTables(
        _fields(name, stored, methods, regions, [_verdict(made) for made in said]),
        _regions(name, regions, said),
        _slide(name, summary, stored, len(regions)),
    )


def _said(reviews: SlideReviews, regions: Sequence[AnomalousRegion]) -> list[dict[str, Review]]:
    """Review of each region by reader."""
    said: list[dict[str, Review]] = [{} for _ in regions]
    for reader in reviews.readers:
        outlines = [region.outline for region in regions]
        for k, review in match_reviews(reviews.of(reader), outlines).of_region.items():
            said[k][reader] = review
    return said


def _verdict(made: Mapping[str, Review]) -> str:
    verdicts = {review.verdict for review in made.values()}
    return DIFFERING if len(verdicts) > 1 else next(iter(verdicts), "")


def _fields(
    name: str,
    stored: StoredScores,
    methods: Sequence[str],
    regions: Sequence[AnomalousRegion],
    verdicts: Sequence[str],
) -> Columns:
    f, count = stored.fields, len(stored.fields)
    number = np.zeros(count, np.int32)
    for k, region in enumerate(regions, start=1):
        number[region.fields] = k
    nothing = np.full(count, np.nan, np.float32)
    center = f.coords + np.asarray(f.field_level0) / 2
    texts = sorted({"", *verdicts})
    of_region = np.array([texts.index(v) for v in ("", *verdicts)], np.int8)
    assessed = np.isfinite(stored.score)
    return {
        "slide": Words(np.zeros(count, np.int8), [name]),
        "x": f.coords[:, 0].astype(np.int64),
        "y": f.coords[:, 1].astype(np.int64),
        "x_um": center[:, 0] * stored.mpp[0],
        "y_um": center[:, 1] * stored.mpp[1],
        "row": f.row.astype(np.int32),
        "col": f.col.astype(np.int32),
        "tissue_fraction": f.tissue_fraction.astype(np.float32),
        "status": Words(f.status, [Status(k).name.lower() for k in range(len(Status))]),
        **{f"score_{m}": stored.scores.get(m, nothing).astype(np.float32) for m in methods},
        **{m: stored.meaning.get(m, nothing).astype(np.float64) for m in MEANINGS},
        "class": Words(
            classes_of(
                stored.meaning.get("percentile"), stored.flagged, stored.taken_away, assessed
            ),
            [kind.name for kind in TILE_CLASSES],
        ),
        "flagged": stored.flagged,
        "region": number,
        "review": Words(of_region[number], texts),
    }


def _regions(
    name: str,
    regions: Sequence[AnomalousRegion],
    said: Sequence[Mapping[str, Review]],
) -> Columns:
    centers = [region.outline.centroid for region in regions]

    def numbers(values: Sequence[float]) -> NDArray[np.float64]:
        return np.asarray(values, np.float64)

    return {
        "slide": Words(np.zeros(len(regions), np.int8), [name]),
        "region": np.arange(1, len(regions) + 1, dtype=np.int32),
        "x": numbers([point.x for point in centers]),
        "y": numbers([point.y for point in centers]),
        "area_mm2": numbers([region.area_mm2 for region in regions]),
        "fields": np.array([len(region.fields) for region in regions], np.int32),
        "mean_score": numbers([region.mean_score for region in regions]),
        "max_score": numbers([region.max_score for region in regions]),
        "highest_smoothed": numbers([region.highest for region in regions]),
        "review": [_verdict(made) for made in said],
        "readers": ["; ".join(f"{r}: {review.verdict}" for r, review in made.items())
                    for made in said],
        "findings": ["; ".join(dict.fromkeys(r.finding for r in made.values() if r.finding))
                     for made in said],
        "outline_wkt": [region.outline.wkt for region in regions],
    }  # fmt: skip


def _slide(name: str, summary: Mapping[str, Any], stored: StoredScores, regions: int) -> Columns:
    def number(value: Any) -> NDArray[np.float64]:
        known = isinstance(value, int | float) and not isinstance(value, bool)
        return np.array([float(value) if known else np.nan])

    slide, flagged = summary["slide"], summary["flagged"]
    return {
        "slide": [name],
        "path": [str(slide["path"])],
        "fingerprint": [str(slide["fingerprint"])],
        "verdict": [str(summary.get("verdict") or "")],
        "slide_score": number(summary["slide_score"]),
        "slide_percentile": number(summary["slide_percentile"]),
        "threshold": number(flagged["threshold"]),
        "regions": np.array([regions], np.int32),
        "flagged_mm2": number(flagged["area_mm2"]),
        "tissue_mm2": number(summary["tissue_mm2"]),
        "not_assessed_mm2": number(summary["not_assessed_mm2"]),
        "fields": np.array([len(stored.fields)], np.int32),
        "field_um": number(stored.fields.field_um),
        "mpp_x": number(stored.mpp[0]),
        "mpp_y": number(stored.mpp[1]),
        "method": [stored.primary],
        "model_hash": [str(summary["model"]["hash"])],
        "result_hash": [str(summary["result_hash"])],
    }
