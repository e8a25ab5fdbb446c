"""Fields of a slide, their pixels, and the files that store them."""

from wsi_anomaly.options import PRESETS
from wsi_anomaly.tiles.config import TileConfig
from wsi_anomaly.tiles.extraction import TileResult, tile_slide
from wsi_anomaly.tiles.fields import Fields, Status, plan_fields
from wsi_anomaly.tiles.preprocessing import Preprocessing, SlidePreprocessor
from wsi_anomaly.tiles.reading import read_fields
from wsi_anomaly.tiles.store import TileStore, find_tile_files
from wsi_anomaly.tiles.tileset import TileSet

__all__ = [
    "PRESETS",
    "Fields",
    "Preprocessing",
    "SlidePreprocessor",
    "Status",
    "TileConfig",
    "TileResult",
    "TileSet",
    "TileStore",
    "find_tile_files",
    "plan_fields",
    "read_fields",
    "tile_slide",
]
