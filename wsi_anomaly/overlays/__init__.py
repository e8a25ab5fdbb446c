"""Everything that a person opens: heatmaps, QuPath overlays, reports, the worklist."""

from wsi_anomaly.overlays.blinding import (
    check_names_may_be_shown,
    is_blinded,
    start_blinding,
    write_key,
)
from wsi_anomaly.overlays.cohort_jobs import (
    ControlScoring,
    Places,
    blind,
    control_jobs,
    for_reference,
    slide_jobs,
)
from wsi_anomaly.overlays.cohort_report import write_cohort
from wsi_anomaly.overlays.jobs import ScoreJob, is_done, result_folders, score_to_folder
from wsi_anomaly.overlays.many import Scored, ScoreOutcome, Scoring, score_slides
from wsi_anomaly.overlays.run import ScoreRun

__all__ = [
    "ControlScoring",
    "Places",
    "ScoreJob",
    "ScoreOutcome",
    "ScoreRun",
    "Scored",
    "Scoring",
    "blind",
    "check_names_may_be_shown",
    "control_jobs",
    "for_reference",
    "is_blinded",
    "is_done",
    "result_folders",
    "score_slides",
    "score_to_folder",
    "slide_jobs",
    "start_blinding",
    "write_cohort",
    "write_key",
]
