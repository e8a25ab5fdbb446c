"""Slides: opening them, reading them at a physical resolution, finding their tissue."""

from wsi_anomaly.slides.base import Bounds, Mpp, ReadError, Region, Slide
from wsi_anomaly.slides.batches import Squares, read_squares
from wsi_anomaly.slides.opening import find_slides, open_slide
from wsi_anomaly.slides.tissue import find_tissue
from wsi_anomaly.slides.tissue_map import (
    BACKGROUND,
    FOLD,
    MASKED,
    PEN,
    TISSUE,
    UNREADABLE,
    TissueMap,
)

__all__ = [
    "BACKGROUND",
    "FOLD",
    "MASKED",
    "PEN",
    "TISSUE",
    "UNREADABLE",
    "Bounds",
    "Mpp",
    "ReadError",
    "Region",
    "Slide",
    "Squares",
    "TissueMap",
    "find_slides",
    "find_tissue",
    "open_slide",
    "read_squares",
]
