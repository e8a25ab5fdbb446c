"""TODO ['studies']."""

from wsi_anomaly.studies.report import write_cohort
from wsi_anomaly.studies.slides import (
    ControlScoring,
    Places,
    blind,
    control_jobs,
    for_reference,
    slide_jobs,
)
from wsi_anomaly.studies.table import Cohort, CohortSlide, read_cohort

__all__ = [
    "Cohort",
    "CohortSlide",
    "ControlScoring",
    "Places",
    "blind",
    "control_jobs",
    "for_reference",
    "read_cohort",
    "slide_jobs",
    "write_cohort",
]
