"""What each verb may be asked for: one frozen, self-checking object a verb.

A command builds it from its flags, a program from keywords, and both get these defaults. Nothing
heavy is imported here, because ``--help`` reads them.
"""

from wsi_anomaly.options.checks import Origin
from wsi_anomaly.options.evaluate import EvaluateKeywords, EvaluateOptions
from wsi_anomaly.options.score import ScoreKeywords, ScoreOptions
from wsi_anomaly.options.tile import PRESETS, TileChoices, TileKeywords, TileOptions
from wsi_anomaly.options.train import (
    CalibrateKeywords,
    CalibrateOptions,
    CheckKeywords,
    CheckOptions,
    LearnKeywords,
    LearnOptions,
    TrainKeywords,
    TrainOptions,
    TuneKeywords,
    TuneOptions,
)

__all__ = [
    "PRESETS",
    "CalibrateKeywords",
    "CalibrateOptions",
    "CheckKeywords",
    "CheckOptions",
    "EvaluateKeywords",
    "EvaluateOptions",
    "LearnKeywords",
    "LearnOptions",
    "Origin",
    "ScoreKeywords",
    "ScoreOptions",
    "TileChoices",
    "TileKeywords",
    "TileOptions",
    "TrainKeywords",
    "TrainOptions",
    "TuneKeywords",
    "TuneOptions",
]
