"""Dirichlet distributions by maximum likelihood: Minka, "Estimating a Dirichlet distribution"."""

from __future__ import annotations

import torch
from torch import Tensor

_ITERATIONS = 1000
_NEWTON_STEPS = 5


def fit_dirichlet(mean_log: Tensor, mean: Tensor) -> Tensor:
    """Maximum-likelihood Dirichlet distributions by Minka's fixed point (2000).

    Parameters
    ----------
    mean_log, mean : Tensor (..., K) float64
        Means of log p and of p over the observations.

    Returns
    -------
    Tensor (..., K)
        alpha, with digamma(alpha) = digamma(sum of alpha) + mean of log p.
    """
    spread = (mean * (mean.clamp_min(1e-300).log() - mean_log)).sum(-1, keepdim=True)
    # Stirling's approximation gives the sum of alpha to begin with, as Golan and El-Yaniv do.
    total = (mean.shape[-1] - 1) * 0.5772156649 / spread.clamp_min(1e-9)
    alpha = (mean * total).clamp_min(1e-12)
    for _ in range(_ITERATIONS):
        former = alpha
        alpha = _inverse_digamma(torch.digamma(alpha.sum(-1, keepdim=True)) + mean_log)
        if ((alpha - former).abs() <= 1e-9 * former).all():
            break
    return alpha


def _inverse_digamma(y: Tensor) -> Tensor:
    """Newton's steps from Minka's starting point."""
    x = torch.where(y >= -2.22, y.exp() + 0.5, -1 / (y - torch.digamma(torch.ones_like(y))))
    for _ in range(_NEWTON_STEPS):
        x = x - (torch.digamma(x) - y) / torch.polygamma(1, x)
    return x
