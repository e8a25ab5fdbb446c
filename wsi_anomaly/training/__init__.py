"""From tiles to a model folder: splits, stages, the loop, checkpoints, calibration."""
