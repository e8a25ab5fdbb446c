"""A step whose launches are recorded once as a CUDA graph, and played back from then on.

A step of the small stages of growth is a few hundred kernels of a few microseconds: starting them
one by one from Python takes longer than computing them. A graph starts all of them at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from wsi_anomaly.learning.distributed import rank_and_world

_FIRST = 3  # calls that run as they are: libraries choose and allocate in them

_log = logging.getLogger(__name__)


def can_record(device: torch.device) -> bool:
    """Whether steps on this device are recorded: on a GPU, by a process that is alone.

    Several processes average their gradients between backward pass and update.
    """
    return device.type == "cuda" and rank_and_world()[1] == 1


class Recorded:
    """A function of tensors of fixed shapes, recorded after its first calls; each call counts.

    Recording computes nothing, so no call is lost or made twice. Where it fails the function goes
    on as it is, and one line of the log says so. Without a GPU it is called with the same tensors.

    Parameters
    ----------
    work : callable
        Takes tensors, whose place in memory stays, and gives one. It must not wait for the device.

    Examples
    --------
    >>> double = Recorded(lambda x: 2 * x)
    >>> [float(double(torch.tensor(value))) for value in (1.0, 3.0)]
    [2.0, 6.0]
    """

    def __init__(self, work: Callable[..., Tensor]) -> None:
        self._work = work
        self._calls = 0
        self._held: tuple[Tensor, ...] = ()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._found: Tensor | None = None
        self._as_it_is = False

    def __call__(self, *given: Tensor) -> Tensor:
        """Call it with tensors of the shapes of the first call."""
        if not self._held:
            self._held = tuple(torch.clone(tensor) for tensor in given)
            self._as_it_is = given[0].device.type != "cuda"
        else:
            for held, tensor in zip(self._held, given, strict=True):
                held.copy_(tensor)
        if self._as_it_is:
            return self._work(*self._held)
        # Streams are of the current card, which need not be that of the tensors.
        with torch.cuda.device(self._held[0].device):
            return self._on_the_card()

    def _on_the_card(self) -> Tensor:
        self._calls += 1
        if self._calls <= _FIRST:
            return self._beside()
        if self._graph is None:
            self._record()
        if self._graph is None or self._found is None:
            return self._work(*self._held)
        self._graph.replay()
        return self._found.clone()  # the next call writes over it

    def _beside(self) -> Tensor:
        """Call it on a stream of its own, as what is to be recorded wants to be begun."""
        now = torch.cuda.current_stream()
        own = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        own.wait_stream(now)
        with torch.cuda.stream(own):
            found = self._work(*self._held)
        now.wait_stream(own)
        return found

    def _record(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            # Of this thread alone: another one may bring the next batch to the card.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._found = self._work(*self._held)
        except RuntimeError as error:
            reason = (str(error).splitlines() or ["no message"])[0]
            _log.warning("Steps are not recorded as a CUDA graph, and slower for it: %s", reason)
            self._as_it_is, self._found = True, None
        else:
            self._graph = graph
