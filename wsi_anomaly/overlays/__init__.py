"""Everything that a person opens: heatmaps, QuPath overlays, reports, the worklist."""

from wsi_anomaly.overlays.cohort_jobs import (
    ControlScoring,
    Places,
    blind,
    control_jobs,
    for_reference,
    slide_jobs,
)
from wsi_anomaly.overlays.cohort_report import write_cohort

__all__ = [
    "ControlScoring",
    "Places",
    "blind",
    "control_jobs",
    "for_reference",
    "slide_jobs",
    "write_cohort",
]
