"""Outlines in and out: what a person drew on a slide, in level-0 pixels."""

from wsi_anomaly.annotations.outlines import Outline, fractions_inside
from wsi_anomaly.annotations.qupath import read_geojson, write_geojson

__all__ = ["Outline", "fractions_inside", "read_geojson", "write_geojson"]
