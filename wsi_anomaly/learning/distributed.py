"""Several processes under ``torchrun``: each takes its share of a batch, gradients are averaged.

The networks are tiny, and which of their parts learn changes with the stage, so one flat
all-reduce a step serves better than a wrapper around the module.
"""

from __future__ import annotations

import os
import time
from threading import Event

import torch
import torch.distributed as dist
from torch import Tensor

_LETTING_GO_S = 0.5
_JOINED = Event()  # set while the group is ours to end, not that of the program that called us


def rank_and_world() -> tuple[int, int]:
    """Return the number of this process and of all; (0, 1) outside ``torchrun``."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def join(device: str) -> tuple[int, int]:
    """Join the other processes when ``torchrun`` has started this one.

    Parameters
    ----------
    device
        What this process computes on, as :func:`~wsi_anomaly.core.devices.choose_device` gives it.

    Returns
    -------
    Number of this process and of all.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        on_gpu = torch.device(device).type == "cuda"
        if on_gpu:
            torch.cuda.set_device(device)
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
        _JOINED.set()
    return rank_and_world()


def wait_for_all() -> None:
    """Go on when every process has come so far."""
    if rank_and_world()[1] > 1:
        dist.barrier()


def leave() -> None:
    """End the group that this process has joined, together with all others."""
    if _JOINED.is_set() and dist.is_initialized():
        _JOINED.clear()
        dist.destroy_process_group()
        # A thread of Gloo lets go of its last tensor when it gets its turn with Python's lock. If
        # the interpreter is ending by then, that aborts the process, whose work is done. So the
        # lock is given up long enough.
        time.sleep(_LETTING_GO_S)


def average_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Replace the gradients of an optimiser's parameters by their mean over the processes."""
    _, world = rank_and_world()
    if world == 1:
        return
    gradients = [
        p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None
    ]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    means = torch.split(flat / world, [g.numel() for g in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))


def mean_over_processes(value: Tensor) -> Tensor:
    """Mean of a tensor of any shape (d1, ...) over the processes, the same on each."""
    _, world = rank_and_world()
    if world > 1:
        value = value.clone()
        dist.all_reduce(value)
        value = value / world
    return value
