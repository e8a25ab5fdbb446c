"""The results folder: what is written of a slide, as data and for QuPath, and read back."""

from wsi_anomaly.results.arrays import write_ome_tiff, write_zarr
from wsi_anomaly.results.frame import Frame
from wsi_anomaly.results.geojson import write_geojson
from wsi_anomaly.results.heatmap import write_heatmap_png
from wsi_anomaly.results.summary import read_summary, result_hash

__all__ = [
    "Frame",
    "read_summary",
    "result_hash",
    "write_geojson",
    "write_heatmap_png",
    "write_ome_tiff",
    "write_zarr",
]
