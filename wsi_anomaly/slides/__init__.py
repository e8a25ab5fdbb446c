"""Slides: opening them, reading them at a physical resolution, finding their tissue."""

from wsi_anomaly.slides.base import (
    READERS,
    Bounds,
    Mpp,
    ReadError,
    Region,
    Slide,
    SlideInfo,
)
from wsi_anomaly.slides.batches import Squares, read_squares
from wsi_anomaly.slides.listing import Listing, Other, find_slides, list_slides
from wsi_anomaly.slides.opening import open_slide, slide_fingerprint
from wsi_anomaly.slides.physical import find_mpp
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
    "READERS",
    "TISSUE",
    "UNREADABLE",
    "Bounds",
    "Listing",
    "Mpp",
    "Other",
    "ReadError",
    "Region",
    "Slide",
    "SlideInfo",
    "Squares",
    "TissueMap",
    "find_mpp",
    "find_slides",
    "find_tissue",
    "list_slides",
    "open_slide",
    "read_squares",
    "slide_fingerprint",
]
