"""Train a few steps under ``torchrun``; the first process saves the weights."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from networks import textured_tiles
from test_growth import STAGES, trainer

from wsi_anomaly.learning.batches import ArrayTiles, BatchStream
from wsi_anomaly.learning.distributed import join, leave
from wsi_anomaly.learning.loop import LoopConfig, TrainingLoop

rank, world = join()
stream = BatchStream(ArrayTiles(textured_tiles(40)), 8, seed=3, rank=rank, world=world)
steps = [stage.steps for stage in STAGES]
run = TrainingLoop(trainer(), stream, steps, LoopConfig(report_every=3))
run.run()
if rank == 0:
    torch.save(run.learner.autoencoder.state_dict(), sys.argv[1])
leave()
