"""A step of training and the scoring of ours and of the authors' program, on the same images.

    git clone https://github.com/ninatu/anomaly_detection AUTHORS
    python benchmarks/authors.py AUTHORS [--sizes 64 32] [--json authors.json]

Both have the network of the paper's Camelyon16 runs (4 channels, latent 4 x 8 x 8, fully grown),
the same weights at the start, the same VGG19 (random weights, which do not change its speed), the
same statistics of its filters, the same images and Adam. The losses of the first steps and the
scores show that both compute the same. Theirs: encoder, decoder, loss and optimiser as their
``Trainer`` and their ``predict_anomaly_scores`` call them, without the data's loading and logging,
which ours is without as well. Ours twice: in float32, as ``reproduce`` takes it, and in the number
format that ``train`` takes on this processor.

Theirs is of 2019 and runs on the PyTorch of today when ``vgg19(pretrained=True)``, which downloads,
is answered with our VGG19: that is replaced while this runs. Nothing of theirs is copied.

One thread, CPU time, all interleaved; medians of rounds, ratios within a round. No goal is set.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from common import finish, parser_of
from torch import Tensor, nn
from training import made_tiles, plain_images

from wsi_anomaly.autoencoder import Architecture, GrowthConfig, GrowthTrainer, Stage
from wsi_anomaly.autoencoder.network import ProgressiveAutoencoder
from wsi_anomaly.features import PerceptualNetwork, load_features
from wsi_anomaly.features.precision import fast_precision

LAYERS = {64: "r42", 32: "r32"}  # of the loss, as their configuration has them
CHANNELS, LATENT_PX = 4, 8
SHOWN_STEPS = 3
Program = tuple[Callable[[Tensor], float], Callable[[Tensor], Tensor]]
"""A step of training, which returns the loss; and the scores (N,) of images (N, 3, S, S)."""


def ours(size: int, precision: torch.dtype, statistics_of: PerceptualNetwork) -> Program:
    """Our trainer at the end of its growth, from weights that depend on the seed alone."""
    network, layer = load_features("vgg19", random_seed=0).set_precision(precision), LAYERS[size]
    network.set_statistics(layer, *statistics_of.statistics(layer))
    lower = None if precision == torch.float32 else torch.bfloat16  # as `dpa` does
    autoencoder = started(size).to(memory_format=torch.channels_last)
    stage, growth = (
        Stage(size, transition=False, steps=1_000_000),
        GrowthConfig(layers={size: {layer: 1.0}}),
    )
    trainer = GrowthTrainer(autoencoder, network, (stage,), growth, autocast=lower)
    return lambda images: float(trainer.step((images,), 0).loss), trainer.evaluate


def started(size: int) -> ProgressiveAutoencoder:
    """Our network as both begin."""
    torch.manual_seed(0)
    return ProgressiveAutoencoder(
        Architecture(
            resolution=size, first_resolution=size, latent_resolution=LATENT_PX,
            latent_channels=CHANNELS, widths=(CHANNELS,),
        )
    )  # fmt: skip


def theirs(size: int, statistics_of: PerceptualNetwork) -> Program:
    """Their networks, loss and optimiser, with the weights that ours begins with."""
    from anomaly_detection.dpa import feature_extractor
    from anomaly_detection.dpa.optimizer import Optimizer
    from anomaly_detection.dpa.other_networks import FakeProgGrowNetworks
    from anomaly_detection.dpa.pg_decoders import DECODER_NETWORKS
    from anomaly_detection.dpa.pg_encoders import ENCODER_NETWORKS
    from anomaly_detection.dpa.pg_networks import NetworkType, ProgGrowStageType
    from anomaly_detection.dpa.pg_rec_losses import PGRelativePerceptualL1Loss

    feature_extractor.vgg19 = lambda **_: SimpleNamespace(features=_vgg19())
    kind, stage = NetworkType.residual18, ProgGrowStageType.stab
    widths = [CHANNELS] * len(started(size).architecture.octaves()) + [CHANNELS]
    encoder = ENCODER_NETWORKS[kind](size, LATENT_PX, 3, CHANNELS, widths).get_net(stage, size)
    decoder = DECODER_NETWORKS[kind](LATENT_PX, size, CHANNELS, 3, widths).get_net(stage, size)
    begun = started(size)
    copy_weights(encoder_parts(begun, size), [encoder])
    copy_weights(begun.decoder.parts(size), [decoder])
    loss = PGRelativePerceptualL1Loss(
        size, {size: {"img_weight": 0, "feature_weights": {LAYERS[size]: 1}}}, use_smooth_pg=True
    )
    loss.set_stage_resolution(stage, size)
    mean, std = statistics_of.statistics(LAYERS[size])
    loss._loss.mean_var_dict = {LAYERS[size]: (mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1))}
    critic = FakeProgGrowNetworks().get_net(stage, size)
    optimizer = Optimizer(
        encoder.parameters(), decoder.parameters(), critic.parameters(),
        image_adv_loss=None, image_rec_loss=loss, image_adv_weight=0, image_rec_weight=1,
        adam_kwargs={"lr": GrowthConfig().learning_rate},
    )  # fmt: skip

    def step(images: Tensor) -> float:
        loss.set_reduction("mean")
        found = optimizer.compute_enc_dec_loss(critic, images, decoder(encoder(images)))
        return float(found["image_rec_loss"])

    def score(images: Tensor) -> Tensor:
        loss.set_reduction("none")
        with torch.no_grad():
            scores: Tensor = loss(images, decoder(encoder(images)).detach()).detach()
        return scores

    return step, score


def _vgg19() -> nn.Sequential:
    """The whole VGG19 of torchvision, whose first convolutions have the weights of ours."""
    from torchvision.models import vgg19

    features: nn.Sequential = vgg19(weights=None).features
    copy_weights([load_features("vgg19", random_seed=0)], [features], whole=False)
    return features


def encoder_parts(autoencoder: ProgressiveAutoencoder, size: int) -> list[nn.Module]:
    """Parts of our encoder in the order in which images pass them, as theirs are listed."""
    first, *down, last = autoencoder.encoder.parts(size)
    return [first, *reversed(down), last]


def copy_weights(
    source: Iterable[nn.Module], target: Iterable[nn.Module], *, whole: bool = True
) -> None:
    """Copy the convolutions of one list of modules into those of another, in their order."""
    given, taken = (
        [m for part in parts for m in part.modules() if isinstance(m, nn.Conv2d)]
        for parts in (source, target)
    )
    with torch.no_grad():
        for a, b in zip(given, taken, strict=whole):
            b.weight.copy_(a.weight)
            b.bias.copy_(a.bias)  # type: ignore[union-attr, arg-type]


def measured(size: int, batch: int, rounds: int) -> dict[str, Any]:
    """Losses, scores and speed of all at one size of image."""
    images = plain_images(made_tiles(batch))[..., :size, :size].contiguous()
    measuring = load_features("vgg19", random_seed=0)
    measuring.fit_statistics([images], [LAYERS[size]])
    fast = fast_precision("cpu")
    programs = {
        "theirs": theirs(size, measuring),
        "ours_float32": ours(size, torch.float32, measuring),
    }
    if fast != torch.float32:
        programs["ours_as_train"] = ours(size, fast, measuring)
    scores = {name: score(images) for name, (_, score) in programs.items()}
    losses = {
        name: [step(images) for _ in range(SHOWN_STEPS)] for name, (step, _) in programs.items()
    }
    seconds: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for name, (step, score) in programs.items():
            for what, work in (("training", step), ("scoring", score)):
                start = time.process_time()
                work(images)
                taken = time.process_time() - start
                seconds.setdefault(what, {}).setdefault(name, []).append(taken)
    return {
        "layer": LAYERS[size],
        "batch": batch,
        "format_of_train": str(fast).removeprefix("torch."),
        "losses": {name: [round(value, 7) for value in values] for name, values in losses.items()},
        "largest_difference_of_scores": {
            name: float((found - scores["theirs"]).abs().max() / scores["theirs"].abs().mean())
            for name, found in scores.items()
            if name != "theirs"
        },
        **{what: speeds(by_name, batch) for what, by_name in seconds.items()},
    }


def speeds(seconds: dict[str, list[float]], batch: int) -> dict[str, Any]:
    """Images a second, and how many times theirs ours take less: median, least and most."""
    ratios = {
        name: [a / b for a, b in zip(seconds["theirs"], values, strict=True)]
        for name, values in seconds.items()
        if name != "theirs"
    }
    return {
        "images_per_s": {
            name: round(batch / statistics.median(values), 1) for name, values in seconds.items()
        },
        "times_theirs": {
            name: [round(v, 2) for v in (statistics.median(r), min(r), max(r))]
            for name, r in ratios.items()
        },
    }


def main() -> None:
    """Run and print JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("authors", type=Path, help="checkout of ninatu/anomaly_detection")
    parser.add_argument("--sizes", type=int, nargs="+", choices=list(LAYERS), default=list(LAYERS))
    parser.add_argument("--batch", type=int, default=32)
    asked = parser.parse_args()
    if not (asked.authors / "anomaly_detection" / "dpa").is_dir():
        parser.error(f"{asked.authors} is no checkout of ninatu/anomaly_detection")
    sys.path.insert(0, str(asked.authors.resolve()))
    torch.set_num_threads(1)
    found = {f"{size} px": measured(size, asked.batch, asked.rounds) for size in asked.sizes}
    finish({"rounds": asked.rounds, "sizes": found}, asked.json)


if __name__ == "__main__":
    main()
