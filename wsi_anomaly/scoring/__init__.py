"""Score a slide: from a file and a model to a score map.

The map knows every field that was looked at, what could not be judged and why, what the scores
mean against normal tissue, and the merged anomalous regions. It writes no files; ``overlays``
does.
"""

from wsi_anomaly.scoring.controls import (
    ConcurrentControls,
    Controls,
    ControlScores,
    save_raw_scores,
)
from wsi_anomaly.scoring.interpretation import Interpretation, interpret
from wsi_anomaly.scoring.loading import load_model
from wsi_anomaly.scoring.model import (
    ALONE,
    LEAST_CELLS,
    LIMITS,
    MARKED,
    ScoringModel,
    grid_of,
    scoring_settings,
)
from wsi_anomaly.scoring.regions import AnomalousRegion, merge_regions, union_of_fields
from wsi_anomaly.scoring.score_map import ScoreMap, SlideFacts
from wsi_anomaly.scoring.slide import score_slide
from wsi_anomaly.scoring.top_fields import PixelMaps

__all__ = [
    "ALONE",
    "LEAST_CELLS",
    "LIMITS",
    "MARKED",
    "AnomalousRegion",
    "ConcurrentControls",
    "ControlScores",
    "Controls",
    "Interpretation",
    "PixelMaps",
    "ScoreMap",
    "ScoringModel",
    "SlideFacts",
    "grid_of",
    "interpret",
    "load_model",
    "merge_regions",
    "save_raw_scores",
    "score_slide",
    "scoring_settings",
    "union_of_fields",
]
