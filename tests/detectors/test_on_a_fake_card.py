"""Detectors and the growing autoencoder on a GPU that is not there.

Fake tensors know their device and refuse operations between two of them; they compute nothing.
Gradients ask for a real card, so ``anogan`` and ``dsebm``, which score by gradients, are left out;
``deep-if`` and ``fusion`` decide by values, which fake tensors do not have. Where there is a card
the same is tried on it, with all.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from gpu_common import made_tiles
from gpu_right import _fitted, _quick

from wsi_anomaly.autoencoder import Architecture, GrowthConfig, GrowthTrainer, growth
from wsi_anomaly.autoencoder.network import ProgressiveAutoencoder
from wsi_anomaly.detectors import DETECTORS, Fitting, Model, growing_stages
from wsi_anomaly.features import load_features
from wsi_anomaly.learning.batches import ArrayTiles

CARD = torch.device("cuda:0")
NEED_ONE = {"anogan", "dsebm", "deep-if", "fusion"}
REAL = torch.cuda.is_available()

pytestmark = pytest.mark.filterwarnings("ignore:CUDA is not available")


def card() -> AbstractContextManager[object]:
    return nullcontext() if REAL else FakeTensorMode(allow_non_fake_inputs=True)


@pytest.fixture(scope="module")
def model() -> Model:
    """All methods that can be shown, hardly trained, on the processor."""
    names = sorted(set(DETECTORS.names()) - (set() if REAL else NEED_ONE))
    names.sort(key=lambda name: name == "fusion")
    tiles = ArrayTiles(made_tiles(16))
    return _fitted(_quick(1, 8), names, "cpu", lambda _name: Fitting.on("cpu"), tiles)


def test_scores_and_maps_stay_on_the_card(model: Model) -> None:
    with card():
        model.features.to(CARD)
        images = torch.empty(4, 3, 64, 64, device=CARD)
        for name, detector in model.detectors.items():
            detector.to(CARD)
            layers = model._layers([name])
            truth = model.features(images, layers) if layers else {}
            with torch.no_grad():
                scores = detector.score_batch(images, truth)
                found = detector.map_batch(images, truth)
            assert (scores.device, scores.shape) == (CARD, (4,)), name
            assert found is None or (found.device, found.shape) == (CARD, (4, 64, 64)), name


def test_every_stage_of_growth_and_both_transitions_compute_on_the_card() -> None:
    architecture = Architecture()
    stages = growing_stages(architecture, {16: (0, 2), 32: (2, 2), 64: (2, 2)})
    assert [stage.transition for stage in stages] == [False, True, False, True, False]
    layers = {16: {"b2": 1.0}, 32: {"b3": 1.0}, 64: {"b4": 1.0}}
    network, autoencoder = load_features("lite0"), ProgressiveAutoencoder(architecture)
    with card():
        trainer = GrowthTrainer(
            autoencoder.to(CARD), network.to(CARD), stages, GrowthConfig(layers=layers)
        )
        images = torch.empty(4, 3, 64, 64, device=CARD)
        for index, stage in enumerate(stages):
            trainer.start_stage(index)
            alpha = stage.alpha(0)
            inputs = growth.mix_resolutions(images, stage.resolution, alpha)
            with torch.no_grad():
                rebuilt = trainer.reconstruct(inputs, alpha)
                loss = trainer.loss(inputs, rebuilt, alpha)
            assert rebuilt.shape == (4, 3, stage.resolution, stage.resolution)
            assert (rebuilt.device, loss.device) == (CARD, CARD)
