"""The compiled loops read nothing beyond their arrays: what lies there may be anything."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from wsi_anomaly.autoencoder.few_channels_kernels import single_backward


def test_gradients_of_three_channels_ignore_what_lies_behind_the_weights() -> None:
    """Colours have three channels, the loops make four outputs together."""
    random = np.random.default_rng(0)
    x = random.normal(size=(2, 4, 8, 8)).astype(np.float32)
    given = random.normal(size=(2, 3, 8, 8)).astype(np.float32)
    weight = random.normal(size=(3, 4, 3, 3)).astype(np.float32)
    memory = np.full(1000, np.nan, np.float32)
    turned = memory[: 4 * 3 * 9].reshape(4, 3, 9)
    turned[:] = weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3).reshape(4, 3, 9)
    to_x, to_w, to_b = np.empty_like(x), np.zeros((4, 4, 9), np.float32), np.zeros(4, np.float32)
    single_backward(x, given, turned, True, to_x, to_w, to_b)
    expected = F.conv_transpose2d(torch.from_numpy(given), torch.from_numpy(weight), padding=1)
    np.testing.assert_allclose(to_x, expected.numpy(), atol=1e-4)
