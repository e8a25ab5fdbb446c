"""Adapt ``lite0`` to stained tissue without labels: momentum contrast within slides.

    python tools/adapt.py CLONES -o OUT --slides benchmarks/atlas/without_outlines.csv

CLONES holds a folder of each case (``CASE/HE.dzi``); the CSV files have the columns ``case`` and
``mpp``, and of benchmarks/atlas/cases.csv the half `choose` is taken, never the other. Windows of
512 px at 10x come through the program's own functions, stains normalised. Two views of a place
differ in stain, brightness, focus, scale, turn and flip; the network learns to tell which of many
places **of the same slide** the other view shows (He et al. 2020, MoCo). What tells slides apart,
their stain and scanner, earns nothing. Stages b1 and b2 stay as they are.

Every step's draws depend on the seed and the step alone: an interrupted run goes on where it
stopped when the same command is given again. With ``--start WEIGHTS`` it begins from an earlier
result. ``--feature-weights OUT/adapted.safetensors`` of `train` takes what comes out. What this is
worth so far stands in docs/results.md (the seventh reading): it does not ship.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import csv
import math
import sys
import time
from dataclasses import dataclass, field
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
from wsi_anomaly.features.broad import broad_tiles
from wsi_anomaly.features.network import PerceptualNetwork
from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.tiles import Status, TileConfig, plan_fields
from wsi_anomaly.tiles.plane import SlidePlane

WINDOW, WINDOWS = 512, 224  # px at 10x; most of a slide
SIDE, SOURCE, APART = 128, 272, 24  # px of a view, of what it is cut from, between two views
SLIDES, PLACES = 4, 16  # of a step
WAITING = 1024  # other places of each slide to tell a view from
TEMPERATURE, MOMENTUM, WIDTH = 0.15, 0.99, 128
FROZEN, TRAINED, POOLED = ("b1", "b2"), ("b3", "b4", "b5", "b6"), ("b4", "b5", "b6")
POOLED_WIDTH = 80 + 112 + 192
HEAD_RATE = 5.0  # times the rate of the network
SAVE_EVERY, WARM_UP = 50, 50
CHECKPOINT = "adapt.checkpoint.safetensors"

Windows = NDArray[np.uint8]


def windows_of(path: Path, mpp: float, kept: Path) -> Windows:
    """Windows (n, 512, 512, 3) of a slide's tissue, read once and kept; mapped into memory."""
    if not kept.exists():
        with open_slide(path, mpp=mpp) as slide:
            tissue = find_tissue(slide)
            cells = plan_fields(slide, tissue, field_um=64.0, min_tissue=0.5)
            preprocessing = TileConfig().preprocessing.for_slide(slide, tissue)
            plane = SlidePlane(slide, tissue, 10, preprocessing)
            rows, columns, side = plane.height // 64, plane.width // 64, WINDOW // 64
            good = np.zeros((cells.row.max() + 1, cells.col.max() + 1), np.float32)
            ok = cells.status == Status.OK
            good[cells.row[ok], cells.col[ok]] = 1
            places = [
                (row, column)
                for row in range(0, rows - side + 1, 2)
                for column in range(0, columns - side + 1, 2)
                if good[row : row + side, column : column + side].sum() >= 0.55 * side**2
            ]
            np.random.default_rng(1).shuffle(places)
            found = [
                plane.read(column * 64, row * 64, WINDOW, WINDOW)
                for row, column in sorted(places[:WINDOWS])
            ]
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, np.stack(found))
    windows: Windows = np.load(kept, mmap_mode="r")
    return windows


@dataclass(frozen=True)
class Views:
    """Two views of the places of a step.

    Attributes
    ----------
    slides
        (SLIDES,) which slides; each gives PLACES places, one after the other.
    windows
        (SLIDES * PLACES,) which window of its slide a place lies in.
    first, second
        (SLIDES * PLACES, 3, SIDE, SIDE) RGB in 0..255.
    """

    slides: NDArray[np.intp]
    windows: Tensor
    first: Tensor
    second: Tensor


def views(slides: list[Windows], rng: np.random.Generator) -> Views:
    """Draw the views of a step."""
    drawn = rng.choice(len(slides), SLIDES, replace=False)
    sources: tuple[list[Windows], list[Windows]] = ([], [])
    numbers = []
    for which in drawn:
        windows = slides[which]
        for number in rng.choice(len(windows), PLACES, replace=len(windows) < PLACES):
            numbers.append(number)
            place = rng.integers(APART, WINDOW - SOURCE - APART, 2)
            for source in sources:
                y, x = place + rng.integers(-APART, APART + 1, 2)
                source.append(windows[number, y : y + SOURCE, x : x + SOURCE])
    images = [torch.from_numpy(np.stack(s)).permute(0, 3, 1, 2).float() for s in sources]
    first, second = (coloured(placed(image, rng), rng) for image in images)
    return Views(drawn, torch.tensor(numbers), first, second)


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
    gain = np.exp(rng.normal(0, 0.3, (n, 1, 1)) + rng.normal(0, 0.15, (n, 3, 1)))
    mixture = torch.from_numpy((np.eye(3) + rng.normal(0, 0.1, (n, 3, 3))) * gain).float()
    density = torch.einsum("nij,njhw->nihw", mixture, density)
    light = torch.from_numpy(rng.normal(0, 0.06, (n, 1, 1, 1))).float()
    images = (256 * torch.exp(light - density) - 1).clamp(0, 255)
    blurred = _blurred(images)
    blurred = 0.5 * (blurred + _blurred(blurred))
    share = torch.from_numpy(rng.uniform(-0.6, 1, (n, 1, 1, 1))).float()  # below 0: sharpened
    return images.lerp(blurred, share).clamp(0, 255)


def _blurred(images: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), 3, 1)


class Adaptation(nn.Module):
    """The network's stages and the head that the loss is taken on; the head is thrown away."""

    def __init__(self, network: PerceptualNetwork) -> None:
        super().__init__()
        self.stages = nn.ModuleDict({name: network.stages[name] for name in (*FROZEN, *TRAINED)})
        self.stages.requires_grad_(False)
        for name in TRAINED:
            self.stages[name].requires_grad_(True)
        self.norm = nn.BatchNorm1d(POOLED_WIDTH, affine=False)
        self.head = nn.Sequential(
            nn.Linear(POOLED_WIDTH, POOLED_WIDTH), nn.ReLU(), nn.Linear(POOLED_WIDTH, WIDTH)
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, h, w) in 0..255 to directions (N, WIDTH)."""
        x = ((images - 127) / 128).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            for name in FROZEN:
                x = self.stages[name](x)
        pooled = []
        for name in TRAINED:
            x = self.stages[name](x)
            if name in POOLED:
                pooled.append(x.mean((2, 3)))
        return F.normalize(self.head(self.norm(torch.cat(pooled, 1))), dim=1)


@dataclass
class Waiting:
    """Places of each slide seen before, to tell a new view from: a ring for each slide."""

    slides: int
    keys: Tensor = field(init=False)
    windows: Tensor = field(init=False)
    count: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.keys = torch.zeros(self.slides, WAITING, WIDTH)
        self.windows = torch.full((self.slides, WAITING), -1)
        self.count = torch.zeros(self.slides, dtype=torch.int64)

    def add(self, slide: int, keys: Tensor, windows: Tensor) -> None:
        """Put keys (PLACES, WIDTH) in, the oldest out."""
        start = int(self.count[slide]) % WAITING
        self.keys[slide, start : start + PLACES] = keys
        self.windows[slide, start : start + PLACES] = windows
        self.count[slide] += PLACES

    def of(self, slide: int) -> tuple[Tensor, Tensor]:
        """Keys (n, WIDTH) and windows (n,) of a slide."""
        n = min(int(self.count[slide]), WAITING)
        return self.keys[slide, :n], self.windows[slide, :n]

    def state(self) -> dict[str, Tensor]:
        """Tensors for a checkpoint."""
        return {"keys": self.keys, "windows": self.windows, "count": self.count}


def contrast_loss(queries: Tensor, keys: Tensor, seen: Views, waiting: Waiting) -> Tensor:
    """Mean cross-entropy of finding each query's key among the places of its slide.

    Places of one window may overlap, so they are no wrong answers for each other.
    """
    total = torch.zeros(())
    for turn, slide in enumerate(seen.slides.tolist()):
        mine = slice(turn * PLACES, (turn + 1) * PLACES)
        own, older = seen.windows[mine], waiting.of(slide)
        logits = queries[mine] @ torch.cat([keys[mine], older[0]]).T / TEMPERATURE
        same = own[:, None] == torch.cat([own, older[1]])[None]
        same[:, :PLACES].fill_diagonal_(fill_value=False)
        logits = logits.masked_fill(same, -1e4)
        total = total + F.cross_entropy(logits, torch.arange(PLACES)) / SLIDES
        waiting.add(slide, keys[mine], own)
    return total


def rate_at(step: int, steps: int) -> float:
    """Fraction of the highest rate: linear warm-up, then half a cosine."""
    return min(1.0, (step + 1) / WARM_UP) * _falling(step, steps)


def _falling(step: int, steps: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * step / steps))


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
    lines = [line for line in lines if line["case"] not in options.leave_out]
    slides = [
        windows_of(
            options.clones / line["case"] / "HE.dzi", float(line["mpp"]),
            options.windows / f"{line['case']}.npy",
        )
        for line in lines
    ]  # fmt: skip
    network = load_features("lite0", weights=options.start)
    query = Adaptation(network)
    key = copy.deepcopy(query).requires_grad_(requires_grad=False)
    learning = [p for p in query.stages.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": learning}, {"params": query.head.parameters()}]
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-4)
    waiting = Waiting(len(slides))
    identity = {
        "seed": options.seed, "steps": options.steps, "rate": options.rate,
        "slides": [line["case"] for line in lines],
    }  # fmt: skip
    path = options.output / CHECKPOINT
    first = _resume(path, identity, (query, key), optimizer, waiting)
    started = time.monotonic()
    for step in range(first, options.steps):
        for group, times in zip(optimizer.param_groups, (1.0, HEAD_RATE), strict=True):
            group["lr"] = times * options.rate * rate_at(step, options.steps)
        seen = views(slides, np.random.default_rng((options.seed, step)))
        with torch.no_grad():
            keys = key(seen.second)
        loss = contrast_loss(query(seen.first), keys, seen, waiting)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(query.parameters(), 5.0)
        optimizer.step()
        _follow(key, query, (1 - MOMENTUM) * _falling(step, options.steps))
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == options.steps:
            pace = (time.monotonic() - started) / (step + 1 - first)
            print(step + 1, f"loss {loss.item():.3f}, {pace:.2f} s/step", flush=True)
            tensors = {
                **{f"query.{k}": v for k, v in query.state_dict().items()},
                **{f"key.{k}": v for k, v in key.state_dict().items()},
                **{f"waiting.{k}": v for k, v in waiting.state().items()},
                **optimizer_tensors(optimizer),
            }
            save_tensors(path, tensors, {**identity, "step": step + 1})
    export(options.output / "adapted.safetensors", key, identity)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


@torch.no_grad()
def _follow(key: Adaptation, query: Adaptation, share: float) -> None:
    """Move the slow network towards the learning one."""
    for slow, fast in zip(key.parameters(), query.parameters(), strict=True):
        slow.lerp_(fast, share)
    key.norm.load_state_dict(query.norm.state_dict())


def _resume(
    path: Path, identity: dict[str, Any], networks: tuple[Adaptation, Adaptation],
    optimizer: torch.optim.Optimizer, waiting: Waiting,
) -> int:  # fmt: skip
    if not path.exists():
        return 0
    tensors, metadata = load_tensors(path)
    if any(metadata[name] != value for name, value in identity.items()):
        raise UsageError(f"{path} belongs to another training; delete it to start anew.")
    for prefix, network in zip(("query.", "key."), networks, strict=True):
        network.load_state_dict({k: tensors[f"{prefix}{k}"] for k in network.state_dict()})
    for name, tensor in waiting.state().items():
        tensor.copy_(tensors[f"waiting.{name}"])
    load_optimizer(optimizer, tensors)
    return int(metadata["step"])


def export(path: Path, adapted: Adaptation, made: dict[str, Any]) -> None:
    """Write the slow network, b1 to b6, with its statistics on the broad set of images."""
    network = load_features("lite0")
    for name in (*FROZEN, *TRAINED):
        network.stages[name].load_state_dict(adapted.stages[name].state_dict())
    network.fit_statistics(broad_tiles(), [*FROZEN, *TRAINED])
    tensors, config = network.to_state([*FROZEN, *TRAINED])
    save_tensors(path, tensors, {**config, "made": made})


def main() -> int:
    """Run the training; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("clones", type=Path, help="folder of the cases")
    parser.add_argument("--slides", type=Path, nargs="+", required=True, help="CSV: case, mpp")
    parser.add_argument("--leave-out", nargs="*", default=[], metavar="CASE")
    parser.add_argument("--start", type=Path, help="weights of an earlier run")
    parser.add_argument("--windows", type=Path, required=True, help="where windows are kept")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=2e-4)
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
