"""The demo's commands and its honest figures.

Seeds were chosen once and lesion slides choose nothing: no threshold, no step count, no method.
Unseen slides, normal and abnormal, take part in nothing but the last table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from wsi_anomaly import __version__
from wsi_anomaly.annotations import Outline, read_geojson
from wsi_anomaly.core.errors import WsiAnomalyError
from wsi_anomaly.evaluation import Performance, ScoredSlide
from wsi_anomaly.experiments.demo_slides import DemoSlide, outlines_path, slide_path
from wsi_anomaly.experiments.known_truth import (
    Finding,
    colour_control,
    colour_scores,
    smoothed,
    tile_performance,
    what_was_found,
)
from wsi_anomaly.tiles import TileSet, TileStore, find_tile_files
from wsi_anomaly.training.config import load_config

CONFIG = "fast"
MAGNIFICATION, TILE_SIZE = 20, 128
SMALLEST_LESION_MM2 = 0.05
LARGE_LESION_MM2 = 0.2


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
    outlines: dict[str, list[Outline]] = {
        slide.name: read_geojson(outlines_path(folder, slide)) for slide in unseen
    }
    stores = [TileStore.open(path) for path in find_tile_files([folder / "tiles"])]
    tiles = TileSet(stores, MAGNIFICATION, tile_size=TILE_SIZE)
    control = colour_control(tiles)
    colours = {
        slide.name: colour_scores(
            slide,
            slide_path(folder, made),
            control,
            tiles.preprocessing,
            magnification=MAGNIFICATION,
            tile_size=TILE_SIZE,
        )
        for slide, made in zip(scored, unseen, strict=True)
    }
    return DemoFigures(
        tiles={name: tile_performance(scored, outlines, method=name) for name in scored[0].scores},
        smoothed=tile_performance(scored, outlines, smoothed(scored)),
        colour=tile_performance(scored, outlines, colours),
        colour_smoothed=tile_performance(scored, outlines, smoothed(scored, colours)),
        primary=scored[0].primary,
        flags=what_was_found(scored, outlines, at_least_mm2=SMALLEST_LESION_MM2),
        large=what_was_found(scored, outlines, at_least_mm2=LARGE_LESION_MM2),
        normal_slides=tuple(slide.name for slide in unseen if slide.lesions is None),
    )


def commands(folder: Path, workers: int) -> list[list[str]]:
    """Give the command lines of the demo, in order, without the program's name."""
    return [
        ["tile", f"{folder / 'slides' / 'normal'}", "-o", f"{folder / 'tiles'}",
         "--magnifications", str(MAGNIFICATION), "--workers", str(workers)],
        ["train", f"{folder / 'tiles'}", "-o", f"{folder / 'model'}", "--config", CONFIG,
         "--magnification", str(MAGNIFICATION)],
        ["score", f"{folder / 'slides' / 'new'}", "--model", f"{folder / 'model'}",
         "-o", f"{folder / 'results'}", "--heatmap", "--workers", str(workers)],
    ]  # fmt: skip


def model_is_current(folder: Path) -> bool:
    """Whether the model was trained by this program on exactly the tiles that are there."""
    config = replace(load_config(CONFIG), magnification=MAGNIFICATION)
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
