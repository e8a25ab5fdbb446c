"""One thread computes for several: of what lies ready, parts of one kind become one batch."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass

import torch
from torch import Tensor, nn

MOST = 8
"""Parts in a batch; bounds what the device holds at once."""


@dataclass(frozen=True, eq=False)
class _Asked:
    modules: nn.Module
    part: Tensor
    found: Future[Tensor]


class Together:
    """Runs modules on parts that several threads ask for, those of different slides at once.

    A part is enlarged at its right and lower edge to the size of the others in its batch, so the
    modules must not see across it: convolutions without padding, as in
    :class:`~wsi_anomaly.features.dense.DenseMaps`. Whoever asks waits, so there are never more
    parts under way than threads that ask.
    """

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="network", daemon=True)
        self._thread.start()

    def run(self, modules: nn.Module, part: Tensor) -> Tensor:
        """Give ``modules(part)`` of a part (1, C, h, w), maybe with more at its right and below."""
        found: Future[Tensor] = Future()
        if not self._thread.is_alive():
            raise RuntimeError("the network has ended")
        self._asked.put(_Asked(modules, part, found))
        return found.result()

    def close(self) -> None:
        """End the thread, when it has answered who waits."""
        self._asked.put(None)
        self._thread.join()

    @torch.inference_mode()
    def _work(self) -> None:
        waiting: list[_Asked] = []
        ends = False
        while True:
            while not self._asked.empty() or not (waiting or ends):
                asked = self._asked.get()
                ends |= asked is None
                waiting += [asked] if asked else []
            if not waiting:
                return
            modules = waiting[0].modules
            batch = [asked for asked in waiting if asked.modules is modules][:MOST]
            waiting = [asked for asked in waiting if asked not in batch]
            try:
                computed = modules(_as_one([asked.part for asked in batch]))
            except Exception as error:  # noqa: BLE001 - raised again where it was asked for
                for asked in batch:
                    asked.found.set_exception(error)
            else:
                for asked, found in zip(batch, computed.split(1), strict=True):
                    asked.found.set_result(found)


def _as_one(parts: list[Tensor]) -> Tensor:
    """Parts (1, C, h, w) as one batch (n, C, H, W), zeros where there was nothing."""
    if len(parts) == 1:
        return parts[0]
    height, width = (max(part.shape[axis] for part in parts) for axis in (2, 3))
    batch = torch.zeros(
        (len(parts), parts[0].shape[1], height, width), dtype=parts[0].dtype,
        device=parts[0].device,
    ).to(memory_format=torch.channels_last)  # fmt: skip
    for place, part in zip(batch, parts, strict=True):
        place[:, : part.shape[2], : part.shape[3]] = part[0]
    return batch
