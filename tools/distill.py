"""Train ``compact``: predict the middle layers of a large network with a small one.

    python tools/distill.py DATA --teacher squeezenet_v1.0.npz -o models/

The teacher sees each 64 px tile enlarged twice (it was made for 227 px photographs, and tells
medical tiles apart better at that scale); 1x1 heads on the student's layers predict the teacher's
activations, standardised per filter, position by position and averaged over the tile. The heads
are thrown away. Every step's batch depends on the seed and the step alone, so an interrupted run
resumes on the same curve when the same command is given again. Until the learning rate begins to
fall (the last 30% of the steps) it may also be given another ``--steps``: the curve is then that
of a run of that length.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corpus import Corpus, augment, read_corpus
from wsi_anomaly.core.errors import UsageError, WsiAnomalyError
from wsi_anomaly.core.files import write_json
from wsi_anomaly.core.tensors import (
    load_optimizer,
    load_tensors,
    optimizer_tensors,
    save_tensors,
)
from wsi_anomaly.features.compact import DEFAULT_LAYER, STRIDES, WIDTHS, compact_stages
from wsi_anomaly.features.folding import fold
from wsi_anomaly.features.loading import load_features
from wsi_anomaly.features.network import PerceptualNetwork, Stage
from wsi_anomaly.features.scaling import SYMMETRIC

TARGETS = {"c2": ("fire4",), "c3": ("fire6",), "c4": ("fire8", "fire9")}
"""Which layers of the teacher each layer of the student learns to predict."""

BATCH = 64
CLIP = 6.0
SAVE_EVERY = 250
STATISTICS_BATCHES = 32
WARM_UP = 200
DECAY_FROM = 0.7
CHECKPOINT = "distill.checkpoint.safetensors"


@dataclass
class Target:
    """Per-filter statistics of a teacher's layer: over positions, and of the tile's mean."""

    mean: Tensor
    std: Tensor
    pooled_std: Tensor


class Distillation(nn.Module):
    """Student with its heads; the teacher stays outside, frozen."""

    def __init__(self, teacher: PerceptualNetwork) -> None:
        super().__init__()
        self.stages = nn.ModuleDict({s.name: s.modules for s in compact_stages(norm=True)})
        self.heads = nn.ModuleDict()
        sizes = {"fire4": 256, "fire6": 384, "fire8": 512, "fire9": 512}
        for layer, names in TARGETS.items():
            for name in names:
                self.heads[name] = nn.Conv2d(WIDTHS[layer], sizes[name], 1)
        self._teacher = [teacher]
        self.targets: dict[str, Target] = {}

    @torch.no_grad()
    def teach(self, images: Tensor) -> dict[str, Tensor]:
        """Teacher's activations on the enlarged tiles, averaged to the student's grid."""
        double = F.interpolate(images / 127.5 - 1, scale_factor=2.0, mode="bilinear")
        # Its first layers have no padding: these margins centre its grid on the student's.
        double = F.pad(double, (5, 1, 5, 1), mode="reflect")
        found = self._teacher[0].activations(double, list(self.heads))
        size = images.shape[-1]
        return {
            name: F.adaptive_avg_pool2d(found[name].float(), size // STRIDES[layer])
            for layer, names in TARGETS.items()
            for name in names
        }

    @torch.no_grad()
    def fit_targets(self, batches: list[Tensor]) -> None:
        """Measure the statistics that standardise the targets."""
        found = [self.teach(batch) for batch in batches]
        for name in self.heads:
            f = torch.cat([one[name] for one in found])
            std = f.std((0, 2, 3))
            pooled = f.mean((2, 3)).std(0)
            self.targets[name] = Target(
                f.mean((0, 2, 3)).view(1, -1, 1, 1),
                std.clamp_min(0.1 * float(std.median())).view(1, -1, 1, 1),
                pooled.clamp_min(0.1 * float(pooled.median())),
            )

    def losses(self, images: Tensor) -> dict[str, Tensor]:
        """Mean squared error per target, by position (``fire6``) and of means (``fire6 mean``).

        1 is what predicting the average would give.
        """
        truth = self.teach(images)
        x = (images / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        result = {}
        with torch.autocast("cpu", torch.bfloat16):
            for layer, names in TARGETS.items():
                x = self.stages[layer](x)
                for name in names:
                    y = self.heads[name](x).float()
                    target = self.targets[name]
                    z = ((truth[name] - target.mean) / target.std).clamp(-CLIP, CLIP)
                    result[name] = F.mse_loss(y, z)
                    # Means in units of their own spread: the tile-level signal is the small one.
                    difference = (y - z).mean((2, 3)) * target.std.flatten() / target.pooled_std
                    result[f"{name} mean"] = difference.square().mean()
        return result


def build_student(model: Distillation) -> PerceptualNetwork:
    """Make the network from the trained stages, normalisation folded in."""
    stages = copy.deepcopy(model.stages).eval()
    fold(stages)
    named = [Stage(name, stage) for name, stage in stages.items()]
    return PerceptualNetwork("compact", named, SYMMETRIC, DEFAULT_LAYER)


def learning_rate(step: int, steps: int) -> float:
    """Fraction of the highest rate at `step`: linear warm-up, level, linear fall to the end."""
    rise = (step + 1) / WARM_UP
    fall = (steps - step) / (steps * (1 - DECAY_FROM))
    return min(1.0, rise, fall)


def main() -> int:
    """Run the training; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path, help="folder with the sources of tools/corpus.py")
    parser.add_argument("--teacher", type=Path, required=True, help="SqueezeNet v1.0 as .npz")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--leave-out", action="append", default=[], help="source not to be seen")
    parser.add_argument("--seed", type=int, default=0)
    try:
        run(parser.parse_args())
    except WsiAnomalyError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def run(options: argparse.Namespace) -> None:
    """Train from `options`, resuming from the checkpoint in the output folder if there is one.

    Raises
    ------
    UsageError
        A source is missing, or the checkpoint belongs to another run.
    ModelError
        The teacher's weights are missing or damaged.
    """
    torch.manual_seed(options.seed)
    corpus, unseen = read_corpus(options.data, leave_out=options.leave_out)
    teacher = load_features("squeezenet", weights=options.teacher)
    model = Distillation(teacher.set_precision(torch.bfloat16))
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.fit_targets([_batch(corpus, options.seed, -1 - i) for i in range(STATISTICS_BATCHES)])
    test = [unseen.crops(BATCH, (options.seed, 1, i)) for i in range(8)]
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}]
    )
    first, log = _resume(options, model, optimizer)
    started = time.monotonic()
    for step in range(first, options.steps):
        rate = options.learning_rate * learning_rate(step, options.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        model.train()
        loss = torch.stack(list(model.losses(_batch(corpus, options.seed, step)).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == options.steps:
            log.append({"step": step + 1, "train": round(loss.item(), 4), **_evaluate(model, test)})
            pace = (time.monotonic() - started) / (step + 1 - first)
            print(log[-1], f"{pace:.3f} s/step", flush=True)
            save_tensors(
                options.output / CHECKPOINT,
                {**model.state_dict(), **optimizer_tensors(optimizer)},
                {**_identity(options), "step": step + 1, "steps": options.steps, "log": log},
            )
    export(options, model, corpus, log)
    with contextlib.suppress(FileNotFoundError):
        (options.output / CHECKPOINT).unlink()


def _batch(corpus: Corpus, seed: int, step: int) -> Tensor:
    return augment(corpus.crops(BATCH, (seed, 0, step + 1_000_000)), seed * 10_000_019 + step)


@torch.no_grad()
def _evaluate(model: Distillation, batches: list[Tensor]) -> dict[str, float]:
    model.eval()
    found = [model.losses(batch) for batch in batches]
    return {
        name: round(float(torch.stack([one[name] for one in found]).mean()), 4) for name in found[0]
    }


def _identity(options: argparse.Namespace) -> dict[str, Any]:
    """Tell what must be equal in two commands for one to continue the other."""
    return {
        "seed": options.seed,
        "learning_rate": options.learning_rate,
        "leave_out": sorted(options.leave_out),
    }


def _resume(
    options: argparse.Namespace, model: Distillation, optimizer: torch.optim.Optimizer
) -> tuple[int, list[dict[str, float]]]:
    path = options.output / CHECKPOINT
    if not path.exists():
        return 0, []
    tensors, metadata = load_tensors(path)
    step, steps = int(metadata["step"]), int(metadata["steps"])
    fallen = step > DECAY_FROM * min(steps, options.steps)
    if any(metadata[key] != value for key, value in _identity(options).items()) or (
        steps != options.steps and fallen
    ):
        raise UsageError(
            f"{path} belongs to a training with other options; give the same ones again, or delete "
            "it to start anew."
        )
    names = model.state_dict().keys()
    model.load_state_dict({name: tensors[name] for name in names})
    load_optimizer(optimizer, tensors)
    return step, metadata["log"]


def export(
    options: argparse.Namespace, model: Distillation, corpus: Corpus, log: list[dict[str, float]]
) -> None:
    """Measure the student's own statistics and write the weights file and its description."""
    student = build_student(model)
    batches = (
        corpus.crops(BATCH, (options.seed, 2, i)) / 127.5 - 1 for i in range(2 * STATISTICS_BATCHES)
    )
    student.fit_statistics(batches, student.layers)
    tensors, config = student.to_state()
    save_tensors(options.output / "compact.safetensors", tensors, config)
    write_json(
        options.output / "compact.json",
        {
            "format": "wsi-anomaly-features",
            "version": 1,
            **config,
            "parameters": student.parameter_count(),
            "flops_64px": {layer: student.flops(64, [layer]) for layer in student.layers},
            "sources": [source.name for source in corpus.sources],
            "left_out": sorted(options.leave_out),
            "teacher": options.teacher.name,
            "steps": log[-1]["step"] if log else 0,
            "batch": BATCH,
            "learning_rate": options.learning_rate,
            "seed": options.seed,
            "held_out_error": log[-1] if log else {},
        },
    )


if __name__ == "__main__":
    sys.exit(main())
