"""Outlines: what a person drew on a slide, in level-0 pixels."""

from wsi_anomaly.annotations.asap import read_asap
from wsi_anomaly.annotations.files import read_outlines
from wsi_anomaly.annotations.frame import Extent
from wsi_anomaly.annotations.geometry import geojson_geometry
from wsi_anomaly.annotations.masks import (
    outlines_from_mask,
    read_mask,
)
from wsi_anomaly.annotations.outlines import Outline, fractions_inside
from wsi_anomaly.annotations.qupath import area_from_geojson, read_geojson, write_geojson

__all__ = [
    "Extent",
    "Outline",
    "area_from_geojson",
    "fractions_inside",
    "geojson_geometry",
    "outlines_from_mask",
    "read_asap",
    "read_geojson",
    "read_mask",
    "read_outlines",
    "write_geojson",
]
