"""Everything that a person opens: heatmaps, QuPath overlays, reports, the worklist."""

from wsi_anomaly.overlays.arrays import write_ome_tiff, write_zarr
from wsi_anomaly.overlays.frame import Frame
from wsi_anomaly.overlays.geojson import write_geojson
from wsi_anomaly.overlays.heatmap import write_heatmap_png
from wsi_anomaly.overlays.jobs import ScoreOptions, is_done, result_folders, score_to_folder
from wsi_anomaly.overlays.many import Scored, ScoreJob, Scoring, default_workers, score_slides
from wsi_anomaly.overlays.report import write_report
from wsi_anomaly.overlays.results import write_results
from wsi_anomaly.overlays.summary import result_hash
from wsi_anomaly.overlays.worklist import (
    forget_failure,
    note_failure,
    read_summary,
    write_worklist,
)

__all__ = [
    "Frame",
    "ScoreJob",
    "ScoreOptions",
    "Scored",
    "Scoring",
    "default_workers",
    "forget_failure",
    "is_done",
    "note_failure",
    "read_summary",
    "result_folders",
    "result_hash",
    "score_slides",
    "score_to_folder",
    "write_geojson",
    "write_heatmap_png",
    "write_ome_tiff",
    "write_report",
    "write_results",
    "write_worklist",
    "write_zarr",
]
