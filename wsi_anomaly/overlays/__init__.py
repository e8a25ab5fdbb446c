"""Everything that a person opens: heatmaps, QuPath overlays, reports, the worklist."""

from wsi_anomaly.studies.report import write_cohort
from wsi_anomaly.studies.slides import (
    ControlScoring,
    Places,
    blind,
    control_jobs,
    for_reference,
    slide_jobs,
)

__all__ = [
    "ControlScoring",
    "Places",
    "blind",
    "control_jobs",
    "for_reference",
    "slide_jobs",
    "write_cohort",
]
