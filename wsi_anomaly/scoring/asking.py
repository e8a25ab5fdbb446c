"""What a process that reads asks of the one that computes, see ``wsi_anomaly.scoring.served``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from multiprocessing import current_process
from multiprocessing.connection import Client, Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.features.blocks import Read
from wsi_anomaly.features.dense import DenseMaps
from wsi_anomaly.features.network import PerceptualNetwork
from wsi_anomaly.features.pooling import PooledFields

_SQUARES_PX = 1024  # a whole number of the squares by which a plane is judged, at any magnification


class ServedMaps(DenseMaps):
    """Maps of a network that another process runs.

    Parameters
    ----------
    network, layers
        As for :class:`~wsi_anomaly.features.dense.DenseMaps`.
    address : str
        Of the :class:`NetworkServer`.
    """

    def __init__(self, network: PerceptualNetwork, layers: tuple[str, ...], address: str) -> None:
        super().__init__(network, layers)
        self._address = address

    def pooled_fields(
        self, read: Read, width: int, height: int, *, mask: NDArray[np.bool_], **options: Any
    ) -> Iterator[PooledFields]:
        """See :func:`~wsi_anomaly.features.pooling.pooled_fields`; the mask is (rows, columns)."""
        given = {"layers": self.layers, "width": width, "height": height, "mask": mask, **options}
        # Its own way there: scores are asked for while it is under way, and it may end early.
        with closing(connect(self._address)) as connection:
            connection.send(("pooled", given))
            while True:
                kind, value = _received(connection)
                if kind == "part":
                    yield value
                elif kind == "found":
                    return
                else:
                    x, y, across, down = value
                    connection.send_bytes(np.ascontiguousarray(read(*value)).reshape(-1))
                    connection.send(mask[touched(x, y, across, down, self.stride)])


def touched(x: int, y: int, width: int, height: int, stride: int) -> tuple[slice, slice]:
    """Positions of a mask that may change when a rectangle, px, is read."""
    rows, columns = (
        slice(
            first // _SQUARES_PX * _SQUARES_PX // stride,
            -(-(first + side) // _SQUARES_PX) * _SQUARES_PX // stride,
        )
        for first, side in ((y, height), (x, width))
    )
    return rows, columns


def connect(address: str) -> Connection:
    """Begin to ask there, as a process that the asked one has started, or as itself."""
    return Client(address, authkey=current_process().authkey)


@lru_cache(maxsize=1)
def _questions(address: str) -> Connection:
    """Begin to ask for scores, once in a process."""
    return connect(address)


def asked(address: str, question: str, *given: Any) -> Any:
    """Ask one of the questions of :class:`~wsi_anomaly.scoring.served.NetworkServer`.

    Raises
    ------
    Exception
        What was raised there.
    """
    connection = _questions(address)
    connection.send((question, given))
    return _received(connection)[1]


def _received(connection: Connection) -> tuple[str, Any]:
    """Raise what went wrong there; else what came, and what it is."""
    kind, value = connection.recv()
    if kind == "failed":
        raise value
    return kind, value
