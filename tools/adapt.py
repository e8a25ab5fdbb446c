"""Adapt ``lite0`` to tissue: two views of one field alike, fields of one slide unlike.

    python tools/adapt.py CLONES -o OUT --slides benchmarks/atlas/without_outlines.csv

CLONES holds a folder of each case (``CASE/HE.dzi``, see benchmarks/atlas); the CSV files have the
columns ``case`` and ``mpp``. Windows of 512 px at 10x come through the program's own functions,
stains normalised, and are kept in OUT. Two views of a field differ in stain strength and hue,
brightness, focus, scale, place, turn and flip; VICReg (Bardes et al. 2022) over the pooled layers
b5 and b6 makes them alike and keeps the fields of a slide apart. Its variance and covariance are
taken within slides, so that what tells slides apart earns nothing. Stages b1 and b2 stay as they
are. Every step depends on the seed and the step alone: an interrupted run goes on when the same
command is given again.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from wsi_anomaly.core.errors import UsageError, WsiAnomalyError
from wsi_anomaly.core.tensors import (
    load_optimizer,
    load_tensors,
    optimizer_tensors,
    save_tensors,
)
from wsi_anomaly.features import load_features
from wsi_anomaly.features.network import PerceptualNetwork
from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.tiles import Status, TileConfig, plan_fields
from wsi_anomaly.tiles.plane import SlidePlane

WINDOW, WINDOWS = 512, 48  # px at 10x; of a slide
SIDE, SOURCE = 128, 288  # px of a view, and of what it is cut from
SLIDES, FIELDS = 2, 24  # of a batch
FROZEN, TRAINED, POOLED = ("b1", "b2"), ("b3", "b4", "b5", "b6"), ("b5", "b6")
SAVE_EVERY, WARM_UP, WIDTH = 50, 50, 256
CHECKPOINT = "adapt.checkpoint.safetensors"


def windows_of(path: Path, mpp: float, kept: Path) -> NDArray[np.uint8]:
    """Windows (n, 512, 512, 3) of a slide's tissue, read once and kept."""
    if not kept.exists():
        with open_slide(path, mpp=mpp) as slide:
            tissue = find_tissue(slide)
            cells = plan_fields(slide, tissue, field_um=64.0, min_tissue=0.5)
            preprocessing = TileConfig().preprocessing.for_slide(slide, tissue)
            plane = SlidePlane(slide, tissue, 10, preprocessing)
            rows, columns, side = plane.height // 64, plane.width // 64, WINDOW // 64
            good = np.zeros((rows + 1, columns + 1), np.float32)
            good[cells.row, cells.col] = cells.status == Status.OK
            places = [
                (row, column)
                for row in range(0, rows - side + 1, 4)
                for column in range(0, columns - side + 1, 4)
                if good[row : row + side, column : column + side].mean() >= 0.5
            ]
            np.random.default_rng(0).shuffle(places)
            pixels = [plane.read(c * 64, r * 64, WINDOW, WINDOW) for r, c in places[:WINDOWS]]
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, pixels=np.stack(pixels), at=np.array(places[:WINDOWS]))
    with np.load(kept) as file:
        return np.asarray(file["pixels"])


def views(slides: list[NDArray[np.uint8]], rng: np.random.Generator) -> Tensor:
    """Two views of each field (2, SLIDES * FIELDS, 3, SIDE, SIDE), RGB in 0..255."""
    sources: list[list[NDArray[np.uint8]]] = [[], []]
    for which in rng.choice(len(slides), SLIDES, replace=False):
        windows = slides[which]
        for number in rng.choice(len(windows), FIELDS, replace=len(windows) < FIELDS):
            place = rng.integers(16, WINDOW - SOURCE - 16, 2)
            for view in sources:
                y, x = place + rng.integers(-16, 17, 2)
                view.append(windows[number, y : y + SOURCE, x : x + SOURCE])
    found = [torch.from_numpy(np.stack(view)).permute(0, 3, 1, 2).float() for view in sources]
    return torch.stack([coloured(placed(view, rng), rng) for view in found])


def placed(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Turn by any angle, mirror, change the scale 0.7 to 1.4 times; the middle SIDE px."""
    n = len(images)
    angle, scale = rng.uniform(0, 2 * np.pi, n), np.exp(rng.uniform(np.log(0.7), np.log(1.4), n))
    mirror = rng.choice((-1.0, 1.0), n)
    reach = scale * SIDE / SOURCE
    matrix = np.zeros((n, 2, 3))
    matrix[:, 0, 0], matrix[:, 0, 1] = reach * np.cos(angle) * mirror, -reach * np.sin(angle)
    matrix[:, 1, 0], matrix[:, 1, 1] = reach * np.sin(angle) * mirror, reach * np.cos(angle)
    grid = F.affine_grid(torch.from_numpy(matrix).float(), [n, 3, SIDE, SIDE], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def coloured(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Change stains (strength, hue, mixture), brightness and focus."""
    n = len(images)
    density = -torch.log((images + 1) / 256)
    mixture = np.eye(3) + rng.normal(0, 0.08, (n, 3, 3))
    gain = np.exp(rng.normal(0, 0.25, (n, 1, 1)) + rng.normal(0, 0.1, (n, 3, 1)))
    mixed = torch.from_numpy(mixture * gain).float()
    density = torch.einsum("nij,njhw->nihw", mixed, density)
    light = torch.from_numpy(rng.normal(0, 0.06, (n, 1, 1, 1))).float()
    images = (256 * torch.exp(light - density) - 1).clamp(0, 255)
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), 3, 1)
    blurred = 0.5 * (blurred + F.avg_pool2d(F.pad(blurred, (1, 1, 1, 1), mode="reflect"), 3, 1))
    share = torch.from_numpy(rng.uniform(-0.6, 1, (n, 1, 1, 1))).float()  # below 0: sharpened
    return images.lerp(blurred, share).clamp(0, 255)


class Adaptation(nn.Module):
    """The network's stages and the head that the loss is taken on; the head is thrown away."""

    def __init__(self, network: PerceptualNetwork) -> None:
        super().__init__()
        self.stages = nn.ModuleDict({name: network.stages[name] for name in (*FROZEN, *TRAINED)})
        self.stages.requires_grad_(False)
        for name in TRAINED:
            self.stages[name].requires_grad_(True)
        self.norm = nn.BatchNorm1d(112 + 192, affine=False)
        self.head = nn.Linear(112 + 192, WIDTH, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, h, w) in 0..255 to (N, WIDTH)."""
        x = ((images - 127) / 128).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            for name in FROZEN:
                x = self.stages[name](x)
        pooled = []
        for name in TRAINED:
            x = self.stages[name](x)
            if name in POOLED:
                pooled.append(x.mean((2, 3)))
        found: Tensor = self.head(self.norm(torch.cat(pooled, 1)))
        return found


def vicreg(first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """Terms of the loss; variance and covariance within slides."""
    spread, mixed = [], []
    for z in (first, second):
        own = z.view(SLIDES, FIELDS, -1)
        own = (own - own.mean(1, keepdim=True)).flatten(0, 1)
        covariance = own.T @ own / (len(own) - SLIDES)
        diagonal = covariance.diagonal()
        spread.append(F.relu(1 - (diagonal + 1e-4).sqrt()).mean())
        mixed.append((covariance.square().sum() - diagonal.square().sum()) / z.shape[1])
    return {
        "alike": 25 * F.mse_loss(first, second),
        "spread": 12.5 * sum(spread, torch.zeros(())),
        "mixed": 0.5 * sum(mixed, torch.zeros(())),
    }


def rate_at(step: int, steps: int) -> float:
    """Fraction of the highest rate: linear warm-up, then half a cosine."""
    return min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))


def run(options: argparse.Namespace) -> None:
    """Train from `options`; goes on from the checkpoint if there is one.

    Raises
    ------
    UsageError
        The checkpoint belongs to another run.
    """
    torch.manual_seed(options.seed)
    lines = [line for path in options.slides for line in csv.DictReader(path.open())]
    lines = [line for line in lines if line.get("half", "choose") == "choose"]
    seen = [line["case"] for line in lines]
    slides = [
        windows_of(
            options.clones / line["case"] / "HE.dzi", float(line["mpp"]),
            (options.windows or options.output / "windows") / f"{line['case']}.npz",
        )
        for line in lines
    ]  # fmt: skip
    network = load_features("lite0")
    model = Adaptation(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], weight_decay=1e-4
    )
    identity = {"seed": options.seed, "steps": options.steps, "slides": seen, "rate": options.rate}
    path = options.output / CHECKPOINT
    first = _resume(path, identity, model, optimizer)
    started = time.monotonic()
    for step in range(first, options.steps):
        for group in optimizer.param_groups:
            group["lr"] = options.rate * rate_at(step, options.steps)
        batch = views(slides, np.random.default_rng((options.seed, step)))
        terms = vicreg(*model(batch.flatten(0, 1)).chunk(2))
        optimizer.zero_grad(set_to_none=True)
        sum(terms.values(), torch.zeros(())).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == options.steps:
            pace = (time.monotonic() - started) / (step + 1 - first)
            shown = {name: round(float(term), 3) for name, term in terms.items()}
            print(step + 1, shown, f"{pace:.2f} s/step", flush=True)
            save_tensors(
                path, {**model.state_dict(), **optimizer_tensors(optimizer)},
                {**identity, "step": step + 1},
            )  # fmt: skip
            export(options.output, network, identity | {"step": step + 1})
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _resume(
    path: Path, identity: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer
) -> int:
    if not path.exists():
        return 0
    tensors, metadata = load_tensors(path)
    if any(metadata[key] != value for key, value in identity.items()):
        raise UsageError(f"{path} belongs to another training; delete it to start anew.")
    model.load_state_dict({name: tensors[name] for name in model.state_dict()})
    load_optimizer(optimizer, tensors)
    return int(metadata["step"])


def export(folder: Path, network: PerceptualNetwork, made: dict[str, Any]) -> None:
    """Write b1 to b6, without statistics: ``wsi_anomaly.features.broad`` measures them."""
    state = {
        f"{name}.{key}": value
        for name in (*FROZEN, *TRAINED)
        for key, value in network.stages[name].state_dict().items()
    }
    save_tensors(folder / "weights.safetensors", state, {"made": made})


def main() -> int:
    """Run the training; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("clones", type=Path, help="folder of the cases")
    parser.add_argument("--slides", type=Path, nargs="+", required=True, help="CSV: case, mpp")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--windows", type=Path, help="where windows are kept (OUTPUT/windows)")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        run(options)
    except WsiAnomalyError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
