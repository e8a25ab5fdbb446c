"""``summary.json``: the result of a slide in numbers, and the identity by which it is resumed."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wsi_anomaly import __version__
from wsi_anomaly.core.files import config_hash
from wsi_anomaly.options import Origin
from wsi_anomaly.results.frame import Frame
from wsi_anomaly.results.region_file import why
from wsi_anomaly.scoring import AnomalousRegion, Interpretation, ScoreMap, SlideFacts

FORMAT = "wsi-anomaly-summary"
VERSION = 1

_MOST_REGIONS = 1000
_RULE = 2  # what is flagged: another number has every slide scored again


def read_summary(folder: Path) -> dict[str, Any] | None:
    """Summary of a result folder; None where there is none that this program wrote."""
    return read_entry(folder / "summary.json")


def result_names(results: Path) -> list[str]:
    """Names of the folders below a results folder that hold a result; none if there is no such."""
    if not results.is_dir():
        return []
    found = (p for p in results.iterdir() if p.is_dir() and p.name[0] != ".")
    return sorted(p.name for p in found if read_summary(p) is not None)


def read_entry(file: Path) -> dict[str, Any] | None:
    """Read a summary, or the note of a failure; None where this program wrote no such file."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value.get("format") == FORMAT else None


def result_hash(
    model_hash: str,
    slide_fingerprint: str,
    settings: Mapping[str, Any],
    *,
    heatmap: bool,
    origin: Origin,
    gzip: bool,
) -> str:
    """Identity of a result: equal when scoring again would give the same files."""
    return config_hash(
        {
            "version": VERSION,
            "program": __version__,
            "rule": _RULE,
            "model": model_hash,
            "slide": slide_fingerprint,
            "settings": dict(settings),
            "heatmap": heatmap,
            "qupath_origin": origin,
            "gzip": gzip,
        }
    )


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def not_assessed_total_mm2(score_map: ScoreMap) -> float:
    """Area that could not be judged, all reasons together."""
    return sum(score_map.not_assessed_mm2().values())


def region_position(score_map: ScoreMap, frame: Frame, field: int) -> tuple[int, int]:
    """Centre (x, y) of a field, pixels as QuPath counts them."""
    f = score_map.fields
    x, y = f.coords[field]
    return (
        round(float(x) + f.field_level0[0] / 2 - frame.x),
        round(float(y) + f.field_level0[1] / 2 - frame.y),
    )


def provenance(score_map: ScoreMap) -> dict[str, Any]:
    """Say what made this result, for every file that can carry it."""
    return {
        "program": "wsi-anomaly",
        "version": __version__,
        "slide": score_map.slide.name,
        "fingerprint": score_map.slide.fingerprint,
        "model": score_map.model["name"],
        "model_hash": score_map.model["hash"],
        "method": score_map.primary,
        "settings": dict(score_map.settings),
    }


def _slide(slide: SlideFacts) -> dict[str, Any]:
    return {
        "name": slide.name,
        "path": slide.path,
        "fingerprint": slide.fingerprint,
        "size_px": [slide.width, slide.height],
        "mpp": [slide.mpp.x, slide.mpp.y],
        "mpp_source": slide.mpp.source,
        "bounds": [slide.bounds.x, slide.bounds.y, slide.bounds.width, slide.bounds.height],
        "backend": slide.backend,
    }


def _flagged(found: Interpretation) -> dict[str, Any]:
    point = found.operating_point
    return {
        "possible": found.can_flag,
        "rule": "benjamini-hochberg" if found.fdr else "false regions per normal slide",
        "regions": len(found.regions),
        "area_mm2": sum(region.area_mm2 for region in found.regions),
        "threshold": _number(point.threshold),
        "false_regions_promised": point.false_regions,
        "false_regions_expected": _number(point.expected),
        "counted_at_most": _number(point.cap),
        "normal_slides_with_flags": _number(point.any_flag),
        "calibration_cases": point.cases,
        "slide_mm2": _number(point.area_mm2),
        "fdr": None if found.fdr is None else asdict(found.fdr),
        "reason": point.reason,
    }


def _region(
    score_map: ScoreMap, frame: Frame, region: AnomalousRegion, like: str
) -> dict[str, Any]:
    return {
        "area_mm2": region.area_mm2,
        "highest_smoothed": region.highest,
        "mean_score": region.mean_score,
        "max_score": region.max_score,
        "fields": len(region.fields),
        "peak_qupath_px": region_position(score_map, frame, region.peak),
        "like": like,
    }


def _regions(score_map: ScoreMap, frame: Frame) -> list[dict[str, Any]]:
    found = score_map.interpretation
    likes = found.likes or ("",) * len(found.regions)
    pairs = list(zip(found.regions, likes, strict=True))[:_MOST_REGIONS]
    return [
        _region(score_map, frame, region, like) | {"why": why(score_map.beside, number)}
        for number, (region, like) in enumerate(pairs, start=1)
    ]


def _taken_away(score_map: ScoreMap, frame: Frame) -> dict[str, Any]:
    taken = score_map.interpretation.taken_away
    return {
        "regions": len(taken),
        "area_mm2": sum(region.area_mm2 for region, _ in taken),
        "of": [_region(score_map, frame, *pair) for pair in taken[:_MOST_REGIONS]],
    }


def build_summary(
    score_map: ScoreMap, frame: Frame, files: Mapping[str, str], identity: str
) -> dict[str, Any]:
    """Everything of ``summary.json``; only JSON values, no NaN.

    Parameters
    ----------
    score_map, frame
        The result and QuPath's frame.
    files
        Name of each written file by its kind.
    identity
        :func:`result_hash`.
    """
    found = score_map.interpretation
    return {
        "format": FORMAT,
        "version": VERSION,
        "status": "done",
        "result_hash": identity,
        "slide": _slide(score_map.slide),
        "verdict": found.verdict,
        "cannot_be_compared": list(found.incomparable),
        "slide_score": _number(found.slide_score),
        "slide_percentile": _number(found.slide_percentile),
        "mean_of_top_tenth": _number(found.top_mean),
        "color_range": list(found.color_range),
        "flagged": _flagged(found),
        "regions": _regions(score_map, frame),
        "taken_away": _taken_away(score_map, frame),
        "fields": {
            "total": len(score_map.fields),
            "assessed": int(score_map.assessed.sum()),
            "field_um": score_map.fields.field_um,
        },
        "tissue_mm2": score_map.tissue_mm2,
        "not_assessed_mm2": not_assessed_total_mm2(score_map),
        "not_assessed_by_reason_mm2": score_map.not_assessed_mm2(),
        "measured": dict(score_map.measured),
        "seen_in": score_map.seen,
        "warnings": list(found.warnings),
        "notices": list(found.notices),
        "calibration": None
        if score_map.calibration is None
        else {
            "name": score_map.calibration.name,
            "cases": score_map.calibration.n_cases,
            "slides": score_map.calibration.n_slides,
            "fields": score_map.calibration.n_fields,
            "p_floor": score_map.calibration.p_floor,
            # In a blinded study that would tell which slides are controls.
            "measured": {}
            if score_map.calibration.concurrent
            else score_map.calibration.measured(),
        },
        "model": dict(score_map.model),
        "settings": dict(score_map.settings),
        "qupath_origin": frame.origin,
        "files": dict(files),
        "seconds": {name: round(value, 3) for name, value in score_map.timings.items()},
        "program": {"wsi-anomaly": __version__, "python": platform.python_version()},
    }
