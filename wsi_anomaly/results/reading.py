"""A results folder read back: the score map of a slide that was scored before, or elsewhere."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
from shapely.affinity import translate
from shapely.geometry import MultiPolygon, Polygon, shape

from wsi_anomaly.calibration import Calibration
from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.results.frame import Frame
from wsi_anomaly.results.stored_scores import StoredScores
from wsi_anomaly.results.summary import read_summary
from wsi_anomaly.scoring import Interpretation, ScoreMap, SlideFacts, interpret
from wsi_anomaly.slides import Bounds, Mpp

_LONGEST_LINE = 1 << 28  # of an overlay, bytes


def read_score_map(folder: Path, calibration: Calibration | None) -> ScoreMap:
    """Read what ``score`` found on a slide.

    What the folder does not hold is None: error maps, the objective and the vendor.

    Parameters
    ----------
    folder
        Results folder of the slide.
    calibration
        Normal reference with which it was scored.

    Raises
    ------
    OutputError
        It is missing or damaged.
    """
    stored = StoredScores.read(folder)
    summary = read_summary(folder) or {}
    try:
        settings, model = summary["settings"], summary["model"]
        facts = _facts(summary["slide"], stored.mpp)
        found = interpret(
            stored.fields,
            stored.score,
            calibration,
            mpp=stored.mpp,
            seen=summary["seen_in"],
            false_regions=settings["false_regions"],
            fdr=settings["fdr"],
        )
        found = _without_taken_away(found, stored, summary.get("taken_away"))
        return ScoreMap(
            slide=facts,
            fields=stored.fields,
            status=stored.fields.status,
            scores={name: stored.scores[name] for name in model["methods"]},
            primary=stored.primary,
            interpretation=replace(
                found,
                warnings=list(summary["warnings"]),
                notices=tuple(summary.get("notices", ())),
            ),
            calibration=calibration,
            seen=summary["seen_in"],
            model=model,
            settings=settings,
            tissue=_tissue(folder, Frame.of(facts, summary["qupath_origin"])),
            tissue_mm2=float(summary["tissue_mm2"]),
            sparse_mm2=float(summary["not_assessed_by_reason_mm2"].get("sparse", 0)),
            timings=dict(summary["seconds"]),
        )
    except (OSError, EOFError, LookupError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise OutputError(
            f"{folder} is missing or damaged ({reason}); score the slide again."
        ) from error


def _without_taken_away(
    found: Interpretation, stored: StoredScores, taken_away: Any
) -> Interpretation:
    """Leave what was flagged no more as the stored result has it."""
    likes = [str(entry["like"]) for entry in taken_away["of"]] if taken_away else []
    if not likes:
        return found
    gone = [r for r in found.regions if not stored.flagged[r.fields].any()]
    kept = [r for r in found.regions if stored.flagged[r.fields].any()]
    pairs = tuple(zip(gone, [*likes, *likes[-1:] * len(gone)], strict=False))
    return replace(found, flagged=stored.flagged, regions=kept, taken_away=pairs)


def _facts(slide: Mapping[str, Any], mpp: tuple[float, float]) -> SlideFacts:
    width, height = slide["size_px"]
    return SlideFacts(
        name=slide["name"],
        path=slide["path"],
        fingerprint=slide["fingerprint"],
        width=width,
        height=height,
        mpp=Mpp(*mpp, slide["mpp_source"]),
        bounds=Bounds(*slide["bounds"]),
        backend=slide["backend"],
    )


def _tissue(folder: Path, frame: Frame) -> MultiPolygon:
    """Outline of the tissue: the first object of the overlay, a line of its own."""
    plain = folder / "overlay.geojson"
    packed = folder / "overlay.geojson.gz"
    with plain.open("rb") if plain.exists() else gzip.open(packed) as file:
        file.readline(_LONGEST_LINE)
        line = file.readline(_LONGEST_LINE).rstrip(b",\n")
    feature = orjson.loads(line) if line.startswith(b"{") else {}
    if feature.get("properties", {}).get("name") != "Tissue":
        return MultiPolygon()
    outline = translate(shape(feature["geometry"]), frame.x, frame.y)
    return MultiPolygon([outline]) if isinstance(outline, Polygon) else outline
