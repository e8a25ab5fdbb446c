"""In which number format a device runs networks fastest."""

from __future__ import annotations

import torch


def fast_precision(device: torch.device | str) -> torch.dtype:
    """Return bfloat16 where the processor multiplies it natively, else float32.

    Convolutions alone run in it; statistics, distances and scores stay float32. Between the two
    formats scores of the shipped model differ by under 1% of their spread in the median tile, and
    by 6% at most (169 tiles of drawn slides).
    """
    device = torch.device(device)
    if device.type == "cuda":
        native_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native_bf16 else torch.float32
    # Emulated bfloat16 is slower than float32, so the question is about the instructions.
    native = (
        getattr(torch.cpu, name, lambda: False)()
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return torch.bfloat16 if any(native) else torch.float32
