"""Narrow blocks on a CPU: the same arithmetic, without what general libraries add.

The paper's best autoencoder has four channels everywhere. PyTorch pads them to sixteen, and each
of its many small operations passes over the whole batch's memory. Here activation, resampling,
both convolutions and the skip of a block are one pass over each image in float32: a step of
training takes about half the time of bfloat16 in PyTorch (``docs/benchmarks.md``). Parameters, and
results up to rounding, are those of the plain modules, which do everything else: GPUs, wider
networks, second derivatives.

Images are shared among PyTorch's threads in portions of fixed size: the sums, and with them a
training, do not depend on how many threads there are.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from wsi_anomaly.autoencoder.few_channels_kernels import (
    DOUBLE,
    HALF,
    SAME,
    WIDTH,
    block_backward,
    block_forward,
    single_backward,
    single_forward,
)

__all__ = ["DOUBLE", "HALF", "SAME", "can_run", "run_block", "run_single"]

_PORTION = 4  # images


def can_run(x: Tensor, *convolutions: nn.Conv2d, resample: int = SAME) -> bool:
    """Whether these images (N, C, H, W) and convolutions are ones for this module."""
    widest = max(max(c.in_channels, c.out_channels) for c in convolutions)
    odd = resample == HALF and (x.shape[2] % 2 or x.shape[3] % 2)
    return x.device.type == "cpu" and x.is_floating_point() and widest <= WIDTH and not odd


def run_single(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """Run a 3x3 convolution with padding 1, (N, C, H, W) to (N, K, H, W) float32."""
    y: Tensor = _Single.apply(x.float(), convolution.weight, convolution.bias)  # type: ignore[no-untyped-call]
    return y


def run_block(
    x: Tensor, first: nn.Conv2d, second: nn.Conv2d, slope: float, resample: int, *, skip: bool
) -> Tensor:
    """second(activation(first(resampled(activation(x))))), plus the resampled x with `skip`.

    Parameters
    ----------
    x : Tensor (N, C, H, W)
        Even height and width when `resample` is HALF.
    first, second : nn.Conv2d
        3x3 convolutions with padding 1.
    slope : float
        Of the activation.
    resample : int
        SAME, HALF (mean of 2x2) or DOUBLE (each pixel repeated 2x2).
    skip : bool
        Needs as many channels out as in.
    """
    y: Tensor = _Block.apply(  # type: ignore[no-untyped-call]
        x.float(), first.weight, first.bias, second.weight, second.bias, slope, resample, skip
    )
    return y


class _Single(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x = x.contiguous()
        out = x.new_empty(len(x), len(weight), *x.shape[2:])
        w, b = _weights(weight), _bias(bias)
        images, made = x.detach().numpy(), out.numpy()
        _share(len(x), lambda _, s: single_forward(images[s], w, b, made[s]))
        ctx.save_for_backward(x, weight)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        images, given = x.numpy(), gradient.contiguous().numpy()
        wanted, turned = bool(ctx.needs_input_grad[0]), _turned(weight)
        to_x = np.empty_like(images) if wanted else images
        to_w, to_b = _totals(len(x), weight)
        _share(
            len(x),
            lambda i, s: single_backward(
                images[s], given[s], turned, wanted, to_x[s], to_w[i], to_b[i]
            ),
        )
        return torch.from_numpy(to_x) if wanted else None, *_summed(to_w, to_b, weight)


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor,
        slope: float, resample: int, skip: bool,
    ) -> Tensor:  # fmt: skip
        x = x.contiguous()
        height, width = x.shape[2:]
        if resample == HALF:
            height, width = height // 2, width // 2
        elif resample == DOUBLE:
            height, width = 2 * height, 2 * width
        hidden = x.new_empty(len(x), len(w1), height, width)
        out = x.new_empty(len(x), len(w2), height, width)
        images, inside, made = x.detach().numpy(), hidden.numpy(), out.numpy()
        v1, c1, v2, c2 = _weights(w1), _bias(b1), _weights(w2), _bias(b2)
        how = (np.float32(slope), resample, skip)
        _share(
            len(x),
            lambda _, s: block_forward(images[s], v1, c1, v2, c2, how, inside[s], made[s]),
        )
        ctx.save_for_backward(x, hidden, w1, w2)
        ctx.how = how
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, hidden, w1, w2 = ctx.saved_tensors
        images, inside, given = x.numpy(), hidden.numpy(), gradient.contiguous().numpy()
        turned, how = (_turned(w1), _turned(w2)), ctx.how
        to_x = np.empty_like(images)
        (to_w1, to_b1), (to_w2, to_b2) = _totals(len(x), w1), _totals(len(x), w2)
        _share(
            len(x),
            lambda i, s: block_backward(
                images[s], inside[s], given[s], turned, how,
                to_x[s], (to_w1[i], to_b1[i]), (to_w2[i], to_b2[i]),
            ),
        )  # fmt: skip
        weights = (*_summed(to_w1, to_b1, w1), *_summed(to_w2, to_b2, w2))
        return torch.from_numpy(to_x), *weights, None, None, None


def _share(count: int, work: Callable[[int, slice], object]) -> None:
    """Call `work` with each portion's number and slice, on PyTorch's number of threads."""
    portions = [(i, slice(s, s + _PORTION)) for i, s in enumerate(range(0, count, _PORTION))]
    threads = min(torch.get_num_threads(), len(portions))
    if threads <= 1:
        for portion in portions:
            work(*portion)
    else:
        list(_pool(threads).map(lambda portion: work(*portion), portions))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "narrow")


def _weights(weight: Tensor) -> NDArray[np.float32]:
    """Weights (C_out, C_in, 3, 3) as the kernels want them: (4, C_in, 9)."""
    padded = np.zeros((WIDTH, weight.shape[1], 9), np.float32)
    padded[: len(weight)] = weight.detach().reshape(*weight.shape[:2], 9).numpy()
    return padded


def _turned(weight: Tensor) -> NDArray[np.float32]:
    """Weights of the convolution that carries gradients back."""
    return _weights(weight.detach().flip(2, 3).transpose(0, 1))


def _bias(bias: Tensor) -> NDArray[np.float32]:
    padded = np.zeros(WIDTH, np.float32)
    padded[: len(bias)] = bias.detach().numpy()
    return padded


def _totals(count: int, weight: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Zeros for each portion's gradients of weights and bias."""
    portions = -(-count // _PORTION)
    shape = (portions, WIDTH, weight.shape[1], 9)
    return np.zeros(shape, np.float32), np.zeros(shape[:2], np.float32)


def _summed(
    to_weight: NDArray[np.float32], to_bias: NDArray[np.float32], weight: Tensor
) -> tuple[Tensor, Tensor]:
    outputs = len(weight)
    return (
        torch.from_numpy(to_weight[:, :outputs].sum(0)).view(weight.shape),
        torch.from_numpy(to_bias[:, :outputs].sum(0)),
    )
