"""Stages, the loss of a transition, one step, and the loop that strings them together."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from shutil import copy

import numpy as np
import pytest
import torch
from networks import identity_network, random_network, textured_tiles

from wsi_anomaly.autoencoder import (
    Architecture,
    GrowthConfig,
    GrowthTrainer,
    ProgressiveAutoencoder,
    Stage,
    relative_l1,
)
from wsi_anomaly.autoencoder.blocks import halve
from wsi_anomaly.core.errors import ModelError, UsageError
from wsi_anomaly.learning.batches import ArrayTiles, BatchStream, to_images
from wsi_anomaly.learning.loop import LoopConfig, NotFiniteError, TrainingLoop, Validation

ARCHITECTURE = Architecture(resolution=16, first_resolution=8, latent_resolution=4)
STAGES = (
    Stage(8, transition=False, steps=6),
    Stage(16, transition=True, steps=4),
    Stage(16, transition=False, steps=8),
)
LAYERS = {8: {"a": 1.0}, 16: {"b": 1.0}}


def trainer(network=None, **config) -> GrowthTrainer:
    torch.manual_seed(0)
    return GrowthTrainer(
        ProgressiveAutoencoder(ARCHITECTURE),
        network or random_network(),
        STAGES,
        GrowthConfig(layers=LAYERS, **config),
    )


def loop(tmp_path: Path | None = None, *, every: int = 5, held_out=None, **config) -> TrainingLoop:
    stream = BatchStream(ArrayTiles(textured_tiles(40)), 8, seed=3)
    growth = trainer(**config)
    validation = None
    if held_out is not None:
        validation = Validation(held_out, growth.evaluate, growth.autoencoder)
    return TrainingLoop(
        growth,
        stream,
        [stage.steps for stage in STAGES],
        LoopConfig(report_every=3, checkpoint_every=every, validate_every=2, patience=1),
        validation=validation,
        checkpoint=None if tmp_path is None else tmp_path / "dpa.safetensors",
        identity={"run": 1},
    )


def weights(run: TrainingLoop) -> dict[str, torch.Tensor]:
    return {n: t.clone() for n, t in run.learner.autoencoder.state_dict().items()}


def test_alpha_rises_linearly_to_one():
    stage = Stage(32, transition=True, steps=4)
    assert [stage.alpha(k) for k in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert Stage(32, transition=False, steps=4).alpha(0) == 1.0


def test_the_loss_of_a_transition_blends_both_resolutions():
    growth = trainer(identity_network())
    growth.start_stage(1)
    x, y = torch.randn(2, 3, 16, 16), torch.randn(2, 3, 16, 16)
    low = relative_l1(halve(x), halve(y))  # layer a of 8 px is the image itself
    high = relative_l1(halve(x), halve(y))  # layer b halves the image of 16 px
    assert torch.allclose(growth.loss(x, y, 0.25), 0.75 * low + 0.25 * high)
    growth.config.layers[16].clear()
    growth.config.layers[16]["a"] = 1.0
    try:
        expected = 0.75 * low + 0.25 * relative_l1(x, y)
        assert torch.allclose(growth.loss(x, y, 0.25), expected)
    finally:
        growth.config.layers[16].clear()
        growth.config.layers[16]["b"] = 1.0


def test_each_stage_has_a_new_adam_over_the_parts_in_use():
    growth = trainer()
    first = growth.optimizer
    used = sum(p.numel() for g in first.param_groups for p in g["params"])
    growth.start_stage(1)
    assert growth.optimizer is not first
    assert sum(p.numel() for g in growth.optimizer.param_groups for p in g["params"]) > used
    group = growth.optimizer.param_groups[0]
    assert (group["lr"], group["betas"]) == (1e-3, (0.9, 0.999))


def test_a_step_learns_and_leaves_the_perceptual_network_alone():
    growth = trainer()
    frozen = {n: t.clone() for n, t in growth.network.state_dict().items()}
    images = to_images(textured_tiles(8))
    before = growth.evaluate(images).mean()
    for k in range(6):
        growth.step((images,), k)
    assert growth.evaluate(images).mean() < before
    assert all(torch.equal(t, frozen[n]) for n, t in growth.network.state_dict().items())


def test_the_pixel_term_adds_the_absolute_difference_of_pixels():
    x, y = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    plain, with_pixels = trainer(identity_network()), trainer(identity_network(), pixel_weight=2.0)
    extra = with_pixels.loss(x, y, 1.0) - plain.loss(x, y, 1.0)
    assert torch.allclose(extra, 2 * (x - y).abs().mean((1, 2, 3)), atol=1e-6)


def test_the_adversarial_term_trains_a_critic_of_its_own():
    growth = trainer(adversarial_weight=0.1)
    critic = [p.clone() for p in growth.adversary.critic.parameters()]
    assert growth.batches_per_step == 3
    images = to_images(textured_tiles(24)).split(8)
    result = growth.step(tuple(images), 0)
    assert torch.isfinite(result.critic_loss)
    changed = [
        not torch.equal(a, b)
        for a, b in zip(critic, growth.adversary.critic.parameters(), strict=True)
    ]
    assert any(changed)


def test_the_critic_pays_for_large_verdicts():
    """Its loss: 10 (|gradient| - 1)^2 - (D(x) - D(x')) + 0.001 (D(x)^2 + D(x')^2)."""
    adversary = trainer(adversarial_weight=0.1).adversary
    for parameter in adversary.critic.parameters():
        torch.nn.init.zeros_(parameter)
    adversary.critic.last[1].bias.data.fill_(50.0)  # says 50 of everything, so its gradient is 0
    images = to_images(textured_tiles(8))
    adversary.start_stage(16, transition=False)
    loss = adversary.update(images, images, 1.0)
    assert loss.item() == pytest.approx(10 + 0.001 * (50**2 + 50**2))


def test_grey_images_are_rebuilt_in_one_channel():
    autoencoder = ProgressiveAutoencoder(replace(ARCHITECTURE, image_channels=1))
    assert autoencoder.encoder.from_image["16"][0].in_channels == 1
    grey = torch.rand(2, 1, 16, 16).expand(-1, 3, -1, -1)
    rebuilt = autoencoder(grey)
    assert rebuilt.shape == grey.shape
    assert torch.equal(rebuilt, rebuilt[:, :1].expand(-1, 3, -1, -1))
    growth = GrowthTrainer(
        autoencoder, random_network(), STAGES, GrowthConfig(LAYERS, adversarial_weight=0.1)
    )
    assert growth.adversary.critic.from_image["16"][0].in_channels == 1
    assert torch.isfinite(growth.step((grey,) * 3, 0).loss)
    with pytest.raises(UsageError, match="image_channels is 1 or 3"):
        replace(ARCHITECTURE, image_channels=2)


def test_a_resolution_without_a_layer_is_refused():
    with pytest.raises(UsageError, match="8 px"):
        GrowthTrainer(
            ProgressiveAutoencoder(ARCHITECTURE), random_network(), STAGES,
            GrowthConfig(layers={16: {"b": 1.0}}),
        )  # fmt: skip


def test_batches_show_every_tile_once_a_round_and_depend_on_the_step_alone():
    images = textured_tiles(10)
    stream = BatchStream(ArrayTiles(images), 4, seed=1)
    order = np.concatenate([stream.indices(k) for k in range(5)])
    assert sorted(order[:10]) == sorted(order[10:20]) == list(range(10))
    assert order[:10].tolist() != order[10:20].tolist()
    again = BatchStream(ArrayTiles(images), 4, seed=1)
    assert torch.equal(again.batch(3), stream.batch(3))
    assert not torch.equal(BatchStream(ArrayTiles(images), 4, seed=2).batch(3), stream.batch(3))


def test_augmentation_is_live():
    stream = BatchStream(ArrayTiles(textured_tiles(1, 16), tile_size=8), 1, seed=0)
    seen = {stream.batch(k).numpy().tobytes() for k in range(20)}
    assert len(seen) > 10  # other places and flips of the one tile


def test_without_flips_tiles_stay_as_they_are():
    images = textured_tiles(10)
    stream = BatchStream(ArrayTiles(images), 10, seed=1, flips=False)
    found = stream.batch(0)[np.argsort(stream.indices(0))]
    assert torch.equal(found, to_images(images))


def test_processes_share_a_batch_without_overlap():
    tiles = ArrayTiles(textured_tiles(32))
    whole = BatchStream(tiles, 8, seed=5).batch(2)
    parts = [BatchStream(tiles, 8, seed=5, rank=r, world=2).batch(2) for r in range(2)]
    assert torch.equal(whole[0::2], parts[0])
    assert torch.equal(whole[1::2], parts[1])


@pytest.mark.parametrize("config", [{}, {"adversarial_weight": 0.1}])
def test_a_killed_run_resumes_on_the_same_curve(tmp_path, config):
    straight = loop(every=5, **config)
    straight.run()

    broken = loop(tmp_path, every=5, **config)
    real_step, count = broken.learner.step, 0

    def die_at_step_12(*arguments):
        nonlocal count
        count += 1
        if count == 12:
            raise SystemExit  # no chance to tidy up, as with kill -9
        return real_step(*arguments)

    broken.learner.step = die_at_step_12
    with pytest.raises(SystemExit):
        broken.run()
    resumed = loop(tmp_path, every=5, **config)
    assert 0 < len(resumed.log) < len(straight.log)
    resumed.run()
    assert resumed.log == straight.log
    assert all(torch.equal(t, weights(straight)[n]) for n, t in weights(resumed).items())


def test_a_checkpoint_of_version_0_1_0_goes_on(tmp_path):
    straight = loop(adversarial_weight=0.1)
    straight.run()
    old = Path(__file__).parents[1] / "data" / "dpa_checkpoint_0.1.0.safetensors"
    copy(old, tmp_path / "dpa.safetensors")
    resumed = loop(tmp_path, adversarial_weight=0.1)
    assert resumed.log[-1]["step"] == 10  # it was killed at step 12
    resumed.run()
    assert [line["step"] for line in resumed.log] == [line["step"] for line in straight.log]
    losses = [[line["loss"] for line in run.log] for run in (resumed, straight)]
    # Its critic did not pay for large verdicts yet, so the curves are not quite the same.
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    loop(tmp_path).save()
    other = BatchStream(ArrayTiles(textured_tiles(40)), 8, seed=3)
    with pytest.raises(ModelError, match="another configuration"):
        TrainingLoop(
            trainer(), other, [1], checkpoint=tmp_path / "dpa.safetensors", identity={"run": 2}
        )


def test_training_stops_when_validation_no_longer_improves_and_keeps_the_best():
    run = loop(held_out=to_images(textured_tiles(8, seed=9)))
    losses = iter([0.5, 0.5, 0.5])  # as published: one look more than the patience says
    kept = []

    def validate():
        kept.append(weights(run))
        return next(losses)

    run._validate = validate
    log = run.run()
    assert [e["validation"] for e in log if e["validation"] is not None] == [0.5, 0.5, 0.5]
    best = kept[0]
    assert all(torch.equal(t, best[n]) for n, t in weights(run).items())


def test_a_loss_that_is_no_number_stops_and_names_the_step(tmp_path):
    run = loop(tmp_path, every=3)
    real_step, count = run.learner.step, 0

    def poisoned(*arguments):
        nonlocal count
        count += 1
        result = real_step(*arguments)
        if count == 8:
            result.loss.fill_(float("nan"))
        return result

    run.learner.step = poisoned
    with pytest.raises(NotFiniteError, match="step 8"):
        run.run()
    assert all(torch.isfinite(t).all() for t in weights(run).values())
    assert loop(tmp_path, every=3).log[-1]["step"] == 6  # the last good state is on the disk


def under_torchrun(processes: int, *arguments: str) -> None:
    """Wait for its end, however busy the machine is.

    Without ``--standalone``: that meets through a store whose heartbeats time out after 5 s, and
    on one machine nobody needs to be met.
    """
    script = Path(__file__).with_name("torchrun_job.py")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ran = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--master-addr=127.0.0.1",
         f"--master-port={port}", f"--nproc-per-node={processes}", str(script), *arguments],
        check=False, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr


def test_two_processes_under_torchrun_match_one(tmp_path):
    results = []
    for count in (1, 2):
        out = tmp_path / f"{count}.pt"
        under_torchrun(count, str(out))
        results.append(torch.load(out, weights_only=True))
    one, two = results
    for name, tensor in one.items():
        assert torch.allclose(tensor, two[name], atol=1e-5), name


def test_processes_whose_validation_differs_stop_at_the_same_step(tmp_path):
    under_torchrun(2, str(tmp_path / "last"), "parted")
    assert (tmp_path / "last.0").read_text() == (tmp_path / "last.1").read_text()
