"""Studies: the table of a cohort, concurrent controls, groups, the key of a blinded reading."""

from wsi_anomaly.studies.key import write_key
from wsi_anomaly.studies.report import write_cohort
from wsi_anomaly.studies.slides import (
    ControlScoring,
    ResultFolders,
    blind,
    control_jobs,
    for_reference,
    slide_jobs,
)
from wsi_anomaly.studies.table import Cohort, CohortSlide, cohort_of, read_cohort

__all__ = [
    "Cohort",
    "CohortSlide",
    "ControlScoring",
    "ResultFolders",
    "blind",
    "cohort_of",
    "control_jobs",
    "for_reference",
    "read_cohort",
    "slide_jobs",
    "write_cohort",
    "write_key",
]
