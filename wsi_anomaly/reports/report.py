"""``report.html``: one self-contained file that a pathologist opens first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly import __version__
from wsi_anomaly.core.files import write_text
from wsi_anomaly.core.wording import area_text, counted
from wsi_anomaly.reports.beside import BesideRows
from wsi_anomaly.reports.charts import color_bar, histogram, ruler
from wsi_anomaly.reports.pictures import data_uri, gallery
from wsi_anomaly.results.frame import Frame
from wsi_anomaly.results.summary import not_assessed_total_mm2, region_position
from wsi_anomaly.scoring import AnomalousRegion, ScoreMap
from wsi_anomaly.slides import Slide

_AT_ONCE = 25  # regions that are listed unfolded, and marked on the heatmap
_THUMBNAIL_PX = 640
_TEMPLATES = Path(__file__).parent / "templates"
STYLE = _TEMPLATES / "style.css"
"""The style of every page."""


@cache
def environment(folder: Path | None = None) -> Any:
    """Templates with everything escaped: names and metadata of slides are anybody's text.

    Parameters
    ----------
    folder
        Another room's templates, before those of reports.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=FileSystemLoader([folder or _TEMPLATES, _TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(
        area=area_text,
        counted=counted,
        number=number,
        percent=percent,
        above_normal=above_normal,
        version=__version__,
        # Our own file, and no text of a slide goes into it.
        style=Markup(STYLE.read_text(encoding="utf-8")),  # noqa: S704
    )
    return made


def number(value: float | None) -> str:
    """Write a score with four digits, a dash for none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:#.4g}".rstrip(".")


def above_normal(percentile: float, slides: int | None) -> str:
    """Say how a slide's highest score stands among those of normal slides."""
    if slides is None:
        return f"not below {percentile:.0f}% of normal slides"
    return f"not below {round(percentile * slides / 100)} of {slides} normal slides"


def percent(value: float) -> str:
    """Write a percentile; it is not rounded up to the hundred that only the highest have."""
    if value >= 100 - 1e-9:
        return "above all normal fields"
    shown = math.floor(value * 10) / 10
    text = f"{shown:.1f}".rstrip("0").rstrip(".")
    if "." in text or text[-2:] in {"11", "12", "13"}:
        return text + "th percentile"
    return text + {"1": "st", "2": "nd", "3": "rd"}.get(text[-1], "th") + " percentile"


@dataclass(frozen=True)
class Verdict:
    """What the result says in plain words, and what it does not."""

    headline: str
    meaning: str
    limits: str


_LIMITS = (
    "A high score means: unlike the normal tissue from which the model has learned. It does not "
    "say what it is, it is no diagnosis, and a low score does not prove that tissue is normal."
)


def verdict(score_map: ScoreMap) -> Verdict:
    """Put the result in words."""
    found = score_map.interpretation
    point = found.operating_point
    if not score_map.assessed.any():
        return Verdict("Nothing could be assessed.", "See the reasons below.", _LIMITS)
    if found.incomparable:
        return Verdict(
            "This slide cannot be compared with normal slides.",
            " ".join(found.incomparable),
            _LIMITS,
        )
    if not found.can_flag:
        return Verdict("Scores without flags.", point.reason, _LIMITS)
    count = len(found.regions)
    if not count and found.taken_away:
        return Verdict(
            "All flagged regions are like what readers have called harmless.", point.reason, _LIMITS
        )
    if not count:
        headline = (
            "No region stands out, but most of the tissue scores higher than on any normal slide."
            if found.lies_high
            else "No region stands out from normal tissue."
        )
        return Verdict(headline, point.reason, _LIMITS)
    area = sum(region.area_mm2 for region in found.regions)
    return Verdict(
        f"{counted(count, 'region')} ({area_text(area)} mm² in all) "
        f"{'stands' if count == 1 else 'stand'} out from normal tissue.",
        point.reason,
        _LIMITS,
    )


def model_facts(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Short provenance entries of the model; nested ones are left to its model card."""
    return [
        (str(key).replace("_", " ").capitalize(), str(value))
        for key, value in model["provenance"].items()
        if isinstance(value, str | int | float) and len(str(value)) <= 80
    ][:8]


def settings_text(settings: Mapping[str, Any]) -> str:
    """Write the options that were set, as they are typed."""
    words = []
    for key, value in settings.items():
        if value is None or value is False or key == "controls":  # not typed as a value
            continue
        words.append(f"--{key.removesuffix('_um').replace('_', '-')}")
        if value is not True:
            words.append(value if isinstance(value, str) else f"{value:g}")
    return " ".join(words)


def write_report(
    path: str | Path,
    score_map: ScoreMap,
    slide: Slide,
    thumbnail: NDArray[np.uint8],
    overlay: NDArray[np.uint8],
    frame: Frame,
    *,
    alone: NDArray[np.uint8] | None = None,
    geojson: str = "overlay.geojson",
    reviewed: str = "",
    result: str = "",
) -> None:
    """Write the report.

    Parameters
    ----------
    path
        The HTML file.
    score_map, slide
        The result, and the open slide (for the gallery).
    thumbnail, overlay, frame, alone
        (h, w, 3) pictures of the frame: the slide, scores over it, and in its own colours too.
    geojson
        Name of the overlay beside the report.
    reviewed
        What readers have reviewed of it before.
    result
        Name of the folder of results below the worklist's; empty: no worklist lies beside it.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    from PIL import Image

    small = Image.fromarray(thumbnail)
    small.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.LANCZOS)
    regions = score_map.interpretation.regions
    beside = BesideRows(score_map.beside)
    width_um = frame.width * score_map.slide.mpp.x
    text = environment().get_template("report.html.j2").render(
        slide=score_map.slide,
        found=score_map.interpretation,
        calibration=score_map.calibration,
        model=score_map.model,
        model_facts=model_facts(score_map.model),
        primary=score_map.primary,
        settings_text=settings_text(score_map.settings),
        timings=score_map.timings,
        frame=frame,
        verdict=verdict(score_map),
        tissue_mm2=score_map.tissue_mm2,
        not_assessed=score_map.not_assessed_mm2(),
        not_assessed_mm2=not_assessed_total_mm2(score_map),
        flagged_mm2=sum(region.area_mm2 for region in regions),
        assessed=int(score_map.assessed.sum()),
        field_um=score_map.fields.field_um,
        stride_um=score_map.settings["stride_um"],
        width_mm=width_um / 1000,
        ruler=ruler(width_um),
        overlay=data_uri(overlay),
        alone="" if alone is None else data_uri(alone),
        slide_picture=data_uri(thumbnail, quality=80),
        thumbnail=data_uri(np.asarray(small)),
        marks=_marks(score_map, frame),
        bar=color_bar(score_map),
        histogram=histogram(score_map),
        regions=_rows(score_map, frame, regions, score_map.interpretation.likes),
        taken_away=_rows(score_map, frame, *_taken_away(score_map)),
        gallery=gallery(score_map, slide, frame),
        beside=beside,
        has_maps=score_map.pixel_maps is not None,
        geojson=geojson,
        reviewed=reviewed,
        result=quote(result, errors="surrogateescape"),
        at_once=_AT_ONCE,
    )  # fmt: skip
    write_text(path, text)


def _taken_away(score_map: ScoreMap) -> tuple[list[AnomalousRegion], list[str]]:
    pairs = score_map.interpretation.taken_away
    return [region for region, _ in pairs], [like for _, like in pairs]


def _rows(
    score_map: ScoreMap, frame: Frame, regions: Sequence[AnomalousRegion], likes: Sequence[str]
) -> list[dict[str, Any]]:
    """Rows of a table of regions; `likes` is empty where no findings are known."""
    return [
        {
            "rank": rank,
            "position": region_position(score_map, frame, region.peak),
            "area_mm2": region.area_mm2,
            "fields": len(region.fields),
            "highest": region.highest,
            "mean_score": region.mean_score,
            "like": like,
        }
        for rank, (region, like) in enumerate(zip_longest(regions, likes), start=1)
    ]


def _marks(score_map: ScoreMap, frame: Frame) -> list[tuple[int, float, float]]:
    """Say where the numbers of regions stand on the heatmap: percent from the left, the top."""
    out = []
    for rank, region in enumerate(score_map.interpretation.regions[:_AT_ONCE], start=1):
        x, y = region_position(score_map, frame, region.peak)
        out.append((rank, round(100 * x / frame.width, 2), round(100 * y / frame.height, 2)))
    return out
