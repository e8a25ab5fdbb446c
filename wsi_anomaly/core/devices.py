"""Which device a verb computes on."""

from __future__ import annotations

from wsi_anomaly.core.errors import UsageError


def choose_device(asked: str) -> str:
    """Return the device to use; "auto" takes a GPU if there is one.

    Raises
    ------
    UsageError
        The device is unknown, or not there.
    """
    import torch

    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        raise UsageError(f"{asked!r} is no device; give cpu, cuda, cuda:1 or auto.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("There is no usable GPU here; give --device cpu, or run doctor.")
    return asked
