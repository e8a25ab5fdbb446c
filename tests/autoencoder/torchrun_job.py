"""Train a few steps under ``torchrun``; the first process saves the weights."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from networks import textured_tiles
from test_growth import trainer

from wsi_anomaly.autoencoder.loop import LoopConfig, TrainingLoop
from wsi_anomaly.learning.batches import ArrayTiles, BatchStream
from wsi_anomaly.learning.distributed import join, leave

rank, world = join()
stream = BatchStream(ArrayTiles(textured_tiles(40)), 8, seed=3, rank=rank, world=world)
run = TrainingLoop(trainer(), stream, None, LoopConfig(report_every=3))
run.run()
if rank == 0:
    torch.save(run.trainer.autoencoder.state_dict(), sys.argv[1])
leave()
