"""The demo's commands and its honest figures.

Seeds were chosen once and lesion slides choose nothing: no threshold, no step count, no method.
Unseen slides, normal and abnormal, take part in nothing but the last table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_anomaly import __version__
from wsi_anomaly.annotations import Outline, fractions_inside, read_geojson
from wsi_anomaly.calibration import label_regions
from wsi_anomaly.core.errors import WsiAnomalyError
from wsi_anomaly.core.magnification import mpp_of
from wsi_anomaly.demo.slides import DemoSlide, outlines_path, slide_path
from wsi_anomaly.evaluation import (
    ColourControl,
    Performance,
    ScoredSlide,
    label_fields,
    mean_colours,
    performance,
)
from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.tiles import (
    Preprocessing,
    TileSet,
    TileStore,
    find_tile_files,
    plan_fields,
    read_fields,
)
from wsi_anomaly.training.config import load_config

CONFIG = "fast"
FEATURES = "compact"
"""Drawn at 20x, where the network of the default would take several times as long on a CPU."""
MAGNIFICATION, TILE_SIZE = 20, 128
SMALLEST_LESION_MM2 = 0.05
LARGE_LESION_MM2 = 0.2
_COLOUR_TILES = 20_000


@dataclass(frozen=True)
class Finding:
    """What the flags of several slides found.

    Attributes
    ----------
    lesions, found
        Lesions of at least the area asked for, and those that a flagged field touches.
    false_regions
        By slide: flagged regions that touch no lesion of any size.
    """

    lesions: int
    found: int
    false_regions: Mapping[str, int]


@dataclass(frozen=True)
class DemoFigures:
    """What the demo's table shows.

    Attributes
    ----------
    tiles
        Figures of the tiles by method, all unseen slides together.
    smoothed
        Of the method that ranks, scores averaged over 3 x 3 fields: what flags are made of.
    colour, colour_smoothed
        The same of mean colour alone.
    primary
        The method that ranks.
    flags
        Lesions found and false regions.
    large
        The same for lesions of at least `LARGE_LESION_MM2` alone.
    normal_slides
        Names of the unseen normal slides.
    """

    tiles: dict[str, Performance]
    smoothed: Performance
    colour: Performance
    colour_smoothed: Performance
    primary: str
    flags: Finding
    large: Finding
    normal_slides: tuple[str, ...]

    @property
    def false_on_normal(self) -> float:
        """False regions per unseen normal slide."""
        counts = [self.flags.false_regions[name] for name in self.normal_slides]
        return sum(counts) / len(counts)


def evaluate(slides: Sequence[DemoSlide], folder: Path) -> DemoFigures:
    """Hold the results of the unseen slides against their outlines.

    Raises
    ------
    WsiAnomalyError
        A result or a tile file is missing or damaged.
    """
    unseen = [slide for slide in slides if slide.folder == "new"]
    scored = [ScoredSlide.read(folder / "results" / slide.name) for slide in unseen]
    outlines = [read_geojson(outlines_path(folder, slide)) for slide in unseen]
    labels = [
        label_fields(fractions_inside(found, slide.coords, slide.field))
        for slide, found in zip(scored, outlines, strict=True)
    ]
    stores = [TileStore.open(path) for path in find_tile_files([folder / "tiles"])]
    tiles = TileSet(stores, MAGNIFICATION, tile_size=TILE_SIZE)
    seen = tiles.batch(np.arange(0, len(tiles), max(1, len(tiles) // _COLOUR_TILES)))
    control = ColourControl().fit(mean_colours(seen))
    colours = [
        colour_scores(slide, slide_path(folder, made), control, tiles.preprocessing)
        for slide, made in zip(scored, unseen, strict=True)
    ]
    group = np.repeat(np.arange(len(scored)), [len(slide.coords) for slide in scored])

    def figures(scores: Iterable[NDArray[np.floating]]) -> Performance:
        # A field that the detector did not assess counts for no score, the control included.
        values = [
            np.where(slide.assessed, own, np.nan) for slide, own in zip(scored, scores, strict=True)
        ]
        return performance(np.concatenate(labels), np.concatenate(values), group)

    def smoothed(scores: Iterable[NDArray[np.floating]]) -> list[NDArray[np.float32]]:
        return [slide.smoothed(own) for slide, own in zip(scored, scores, strict=True)]

    primary = scored[0].primary
    return DemoFigures(
        tiles={name: figures(slide.scores[name] for slide in scored) for name in scored[0].scores},
        smoothed=figures(smoothed(slide.scores[primary] for slide in scored)),
        colour=figures(colours),
        colour_smoothed=figures(smoothed(colours)),
        primary=primary,
        flags=what_was_found(scored, outlines, at_least_mm2=SMALLEST_LESION_MM2),
        large=what_was_found(scored, outlines, at_least_mm2=LARGE_LESION_MM2),
        normal_slides=tuple(slide.name for slide in unseen if slide.lesions is None),
    )


def what_was_found(
    slides: Sequence[ScoredSlide],
    outlines: Sequence[Sequence[Outline]],
    *,
    at_least_mm2: float = 0.0,
) -> Finding:
    """Count lesions that flagged fields touch, and flagged regions that touch none.

    Parameters
    ----------
    slides, outlines
        Results, and the lesions of each.
    at_least_mm2
        Smaller lesions are not asked for; a region that touches one is not false.
    """
    lesions = flagged = 0
    false: dict[str, int] = {}
    for slide, own in zip(slides, outlines, strict=True):
        polygons = np.array([outline.polygon for outline in own], object)
        x, y = slide.coords[slide.flagged].T
        fields = shapely.box(x, y, x + slide.field[0], y + slide.field[1])
        touching = shapely.intersects(polygons[:, None], fields)
        large = shapely.area(polygons) * slide.mpp[0] * slide.mpp[1] / 1e6 >= at_least_mm2
        lesions += int(large.sum())
        flagged += int(touching.any(1)[large].sum())
        regions, count = label_regions(slide.row, slide.col, slide.flagged)
        false[slide.name] = count - len(np.unique(regions[slide.flagged][touching.any(0)]))
    return Finding(lesions, flagged, false)


def colour_scores(
    slide: ScoredSlide, path: Path, control: ColourControl, preprocessing: Preprocessing
) -> NDArray[np.float64]:
    """Score the very pixels that the detector saw by their colour, (N,); NaN if unreadable."""
    with open_slide(path) as opened:
        tissue = find_tissue(opened)
        # The slide's whole grid, of which the table holds the fields that were looked at.
        field_um = TILE_SIZE * mpp_of(MAGNIFICATION)
        fields = plan_fields(opened, tissue, field_um=field_um, min_tissue=0.0)
        place = {(int(x), int(y)): i for i, (x, y) in enumerate(fields.coords)}
        chosen = np.array([place[int(x), int(y)] for x, y in slide.coords], np.intp)
        scores = np.full(len(chosen), np.nan)
        for indices, images, _status in read_fields(
            opened,
            fields.take(chosen),
            magnification=MAGNIFICATION,
            tile_size=TILE_SIZE,
            preprocess=preprocessing.for_slide(opened, tissue),
        ):
            scores[indices] = control.score_samples(mean_colours(images))
    return scores


def commands(folder: Path, workers: int) -> list[list[str]]:
    """Give the command lines of the demo, in order, without the program's name."""
    return [
        ["tile", f"{folder / 'slides' / 'normal'}", "-o", f"{folder / 'tiles'}",
         "--magnifications", str(MAGNIFICATION), "--workers", str(workers)],
        ["train", f"{folder / 'tiles'}", "-o", f"{folder / 'model'}", "--config", CONFIG,
         "--features", FEATURES, "--magnification", str(MAGNIFICATION)],
        ["score", f"{folder / 'slides' / 'new'}", "--model", f"{folder / 'model'}",
         "-o", f"{folder / 'results'}", "--heatmap", "--workers", str(workers)],
    ]  # fmt: skip


def model_is_current(folder: Path) -> bool:
    """Whether the model was trained by this program on exactly the tiles that are there."""
    config = replace(load_config(CONFIG), features=FEATURES, magnification=MAGNIFICATION)
    try:
        text = (folder / "model" / "model.json").read_text(encoding="utf-8")
        description = json.loads(text)
        stores = [TileStore.open(path) for path in find_tile_files([folder / "tiles"])]
        made = description["provenance"]
        return (
            set(description["seen"]) == {store.fingerprint for store in stores}
            and made["program"] == f"wsi-anomaly {__version__}"
            and made["configuration"] == config.to_dict()
        )
    except (OSError, ValueError, KeyError, TypeError, WsiAnomalyError):
        return False


def figures_as_json(figures: DemoFigures) -> dict[str, Any]:
    """Turn the figures into plain values; None where an interval cannot be computed."""

    def plain(found: Performance) -> dict[str, float | int | None]:
        auc = {k: None if math.isnan(v) else v for k, v in asdict(found.roc_auc).items()}
        return {**auc, "abnormal": found.abnormal, "normal": found.normal}

    return {
        "tile_roc_auc": {name: plain(found) for name, found in figures.tiles.items()},
        "tile_roc_auc_smoothed": plain(figures.smoothed),
        "tile_roc_auc_mean_colour": plain(figures.colour),
        "tile_roc_auc_mean_colour_smoothed": plain(figures.colour_smoothed),
        "primary": figures.primary,
        "lesions": [
            {"at_least_mm2": smallest, "count": found.lesions, "flagged": found.found}
            for smallest, found in (
                (LARGE_LESION_MM2, figures.large),
                (SMALLEST_LESION_MM2, figures.flags),
            )
        ],
        "false_regions": dict(figures.flags.false_regions),
        "false_regions_per_normal_slide": figures.false_on_normal,
    }
