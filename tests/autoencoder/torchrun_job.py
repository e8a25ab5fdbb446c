"""Train a few steps under ``torchrun``; the first process saves the weights.

With the word "parted", validation improves on one process alone: each then saves its last step.
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from networks import textured_tiles
from test_growth import STAGES, trainer

from wsi_anomaly.learning.batches import ArrayTiles, BatchStream
from wsi_anomaly.learning.distributed import join, leave
from wsi_anomaly.learning.loop import LoopConfig, TrainingLoop, Validation

rank, world = join("cpu")
stream = BatchStream(ArrayTiles(textured_tiles(40)), 8, seed=3, rank=rank, world=world)
steps = [stage.steps for stage in STAGES]
learner = trainer()
if "parted" in sys.argv:
    looks = count(1)
    validation = Validation(
        torch.zeros(2, 3, 8, 8),
        lambda images: torch.full((len(images),), 1 / next(looks) if rank else 1.0),
        learner.autoencoder,
    )
    config = LoopConfig(validate_every=1, patience=1)
    log = TrainingLoop(learner, stream, steps, config, validation=validation).run()
    Path(sys.argv[1]).with_suffix(f".{rank}").write_text(str(log[-1]["step"]))
    leave()
    sys.exit()
run = TrainingLoop(learner, stream, steps, LoopConfig(report_every=3))
run.run()
if rank == 0:
    torch.save(run.learner.autoencoder.state_dict(), sys.argv[1])
leave()
