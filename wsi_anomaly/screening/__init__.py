"""Slides and a model to results folders: one slide, many slides, what is done, blinded reading."""

from wsi_anomaly.results.slide_files import is_blinded
from wsi_anomaly.screening.blinding import check_names_may_be_shown, start_blinding
from wsi_anomaly.screening.run import ScoreRun
from wsi_anomaly.screening.slide import ScoreJob, is_done, result_folders, score_to_folder
from wsi_anomaly.screening.slides import Scored, ScoreOutcome, Scoring, score_slides
from wsi_anomaly.screening.watching import score_arrivals

__all__ = [
    "ScoreJob",
    "ScoreOutcome",
    "ScoreRun",
    "Scored",
    "Scoring",
    "check_names_may_be_shown",
    "is_blinded",
    "is_done",
    "result_folders",
    "score_arrivals",
    "score_slides",
    "score_to_folder",
    "start_blinding",
]
