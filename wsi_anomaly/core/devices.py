"""Which device a verb computes on, why there is none, and what to do when its memory is full."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsi_anomaly.core.errors import MemoryShortError, UsageError

_BYTES_OF_A_NETWORK = 3 * 2**30  # context, weights, and what a batch of parts takes
_BYTES_OF_A_SLIDE = 2**29  # maps of a wide one
_DRIVER = Path("/proc/driver/nvidia/version")


def choose_device(asked: str) -> str:
    """Return the device to use, a GPU with its number; "auto" takes a GPU if there is one.

    Under ``torchrun`` each process has the GPU of its own number (``LOCAL_RANK``).

    Returns
    -------
    "cpu", or "cuda:0", "cuda:1", ... : with a number it means the same card in every thread.

    Raises
    ------
    UsageError
        The device is unknown, not supported, or not there.
    """
    import torch

    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        raise UsageError(f"{asked!r} is no device; give cpu, cuda, cuda:1 or auto.") from error
    if device.type == "cpu":
        return "cpu"
    if device.type != "cuda":
        raise UsageError(f"{asked!r} is not supported; give cpu, cuda, cuda:1 or auto.")
    if not torch.cuda.is_available():
        raise UsageError(f"{why_no_gpu()} Or give --device cpu.")
    number = device.index or 0
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if ":" in asked:
            raise UsageError(
                f"Each process of torchrun takes a GPU of its own, not all of them {asked}: give "
                "--device cuda, and choose cards with CUDA_VISIBLE_DEVICES."
            )
        number = int(os.environ.get("LOCAL_RANK", "0"))
    count = torch.cuda.device_count()
    if number >= count:
        raise UsageError(
            f"There is no cuda:{number}: this machine shows {count} "
            f"GPU{'s' if count > 1 else ''}, counted from cuda:0; give one of them, start no more "
            "processes than cards, or look at CUDA_VISIBLE_DEVICES."
        )
    return f"cuda:{number}"


def slides_on(device: str, most: int) -> int:
    """How many slides, at most `most`, a GPU has memory for at a time."""
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(most, (free - _BYTES_OF_A_NETWORK) // _BYTES_OF_A_SLIDE))


def passed_over(asked: str) -> str | None:
    """Say why "auto" takes the processor where a driver is loaded, and so a GPU was expected."""
    import torch

    if asked != "auto" or torch.cuda.is_available() or _driver_version() is None:
        return None
    return f"Computing on the processor. {why_no_gpu()}"


def why_no_gpu() -> str:
    """Say in a sentence why PyTorch finds no GPU, and the remedy."""
    import torch

    built_for: str | None = torch.version.cuda
    if not built_for:
        return "This PyTorch was built without CUDA; install the CUDA build of torch to use a GPU."
    driver = _driver_version()
    if driver is None:
        return "No NVIDIA driver is loaded here; install one to use a GPU."
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return (
            f"NVIDIA's driver {driver} is loaded, but no GPU is visible; give the container or the "
            "job one (docker run --gpus all, Slurm --gres=gpu:1)."
        )
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides every GPU; unset it."
    return (
        f"NVIDIA's driver {driver} does not serve this PyTorch, which was built for CUDA "
        f"{built_for}; install a newer driver."
    )


def _driver_version() -> str | None:
    try:
        words = _DRIVER.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return None
    # "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 ..."
    return next(
        (w for w in words if w[0].isdigit() and w.count(".") in (1, 2)), "of unknown version"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of a device or of the machine is full."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    signs = ("ALLOC_FAILED", "can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


@contextmanager
def memory_explained(device: object, remedy: str) -> Iterator[None]:
    """Turn a shortage of memory on `device` into a sentence that ends with `remedy`.

    Raises
    ------
    MemoryShortError
        Memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryShortError(f"There is not enough memory on {device}; {remedy}.") from error
