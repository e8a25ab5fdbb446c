"""One process computes for many that read: a GPU is fed by all cores and has one network.

A reader finds tissue, reads, normalises and writes results. What networks compute it asks of the
process that has the model on the device, which takes one question of each reader at a time: pixels
go there, embeddings and scores come back. Parts of different slides that lie ready are computed
together (:class:`~wsi_anomaly.features.together.Together`). A reader waits for its answer, so there
is at most one block of pixels (some 13 MB) and one strip's maps of each at a time.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields
from multiprocessing import AuthenticationError, current_process
from multiprocessing.connection import Connection, Listener
from typing import Any, Self
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.detectors import Model
from wsi_anomaly.features.dense import DenseMaps
from wsi_anomaly.features.pooling import pooled_fields
from wsi_anomaly.features.together import Together
from wsi_anomaly.scoring.alone import SlideAlone
from wsi_anomaly.scoring.asking import ServedMaps, asked, connect, touched
from wsi_anomaly.scoring.model import ScoringModel

_ANSWERED = frozenset({"score_tiles", "score_fields", "place_fields", "pixel_maps"})
_WAITING = 128  # readers that knock at once
_CLOSING_SECONDS = 10.0


class NetworkServer:
    """Answers readers, processes of this program, with a model on its device.

    Parameters
    ----------
    model : ScoringModel

    Attributes
    ----------
    address : str
        Where readers ask; only those that this process has started know its key.
    """

    def __init__(self, model: ScoringModel) -> None:
        self._model = model
        self._together = Together()
        self._maps: dict[tuple[str, ...], DenseMaps] = {}
        self._one_at_a_time = threading.Lock()
        # A name that is no file, where there are such: nothing is left, however this process ends.
        own_name = f"\0wsi-anomaly-{uuid4()}" if sys.platform == "linux" else None
        self._listener = Listener(own_name, backlog=_WAITING, authkey=current_process().authkey)
        self.address = own_name or str(self._listener.address)
        self._closed = False
        self._door = threading.Thread(target=self._accept, name="readers", daemon=True)
        self._door.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        connect(self.address).close()  # nothing else wakes who waits for it
        self._door.join(_CLOSING_SECONDS)
        self._together.close()

    def _accept(self) -> None:
        with self._listener:
            while True:
                try:
                    connection = self._listener.accept()
                except (OSError, EOFError, AuthenticationError):
                    continue  # a reader that was ended while it knocked
                if self._closed:
                    connection.close()
                    return
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: Connection) -> None:
        """Answer a reader until it goes, or is gone."""
        with connection:
            try:
                while True:
                    question, given = connection.recv()
                    try:
                        if question == "pooled":
                            self._pool(connection, **given)
                            found = None
                        elif question in _ANSWERED:
                            with self._one_at_a_time:
                                found = getattr(self._model, question)(*given)
                        else:
                            raise ValueError(question)
                    except OSError:
                        raise
                    except Exception as error:  # noqa: BLE001 - the reader's slide has it
                        connection.send(("failed", error))
                    else:
                        connection.send(("found", found))
            except (EOFError, OSError):
                return

    def _pool(
        self, connection: Connection, layers: tuple[str, ...], width: int, height: int,
        mask: NDArray[np.bool_], **options: Any,
    ) -> None:  # fmt: skip
        """Run the network over a reader's slide; pixels are asked for as they are needed."""
        with self._one_at_a_time:
            if layers not in self._maps:
                self._maps[layers] = DenseMaps(self._model.features, layers, self._together.run)
            maps = self._maps[layers]

        def read(x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
            connection.send(("read", (x, y, width, height)))
            pixels = np.empty((height, width, 3), np.uint8)
            connection.recv_bytes_into(pixels.reshape(-1))
            mask[touched(x, y, width, height, maps.stride)] = connection.recv()
            return pixels

        for part in pooled_fields(maps, read, width, height, mask=mask, **options):
            connection.send(("part", part))


@dataclass(frozen=True, eq=False)
class ServedModel(Model):
    """A model on the processor that asks another process for all that its networks compute.

    It holds the weights of the network all the same: what a detector is built with, and knows its
    device by. Of ``lite0`` they are 11.8 MB of a reader's 640.
    """

    address: str = ""
    knows_slide: bool = False
    """Whether its detectors know something of the slide that the other process does not."""

    def dense_maps(self) -> DenseMaps:
        """Give the network with the layers that fields are pooled from."""
        return ServedMaps(self.features, super().dense_maps().layers, self.address)

    def score_fields(
        self, embeddings: Mapping[int, NDArray[np.float32]], shares: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        """See :meth:`Model.score_fields`: (N,) scores of (N, D) embeddings."""
        if self.knows_slide:
            return super().score_fields(embeddings, shares)
        found: dict[str, NDArray[np.float32]] = asked(
            self.address, "score_fields", embeddings, shares
        )
        return found

    def place_fields(
        self, embeddings: Mapping[int, NDArray[np.float32]]
    ) -> NDArray[np.float32] | None:
        """See :meth:`Model.place_fields`: (N, k) of (N, D) embeddings."""
        found: NDArray[np.float32] | None = asked(self.address, "place_fields", embeddings)
        return found

    def score_tiles(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """See :meth:`Model.score_tiles`: (N,) scores of (N, S, S, 3) tiles."""
        found: dict[str, NDArray[np.float32]] = asked(self.address, "score_tiles", images)
        return found

    def pixel_maps(self, images: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """See :meth:`Model.pixel_maps`: (N, S, S) of (N, S, S, 3) tiles."""
        found: NDArray[np.float32] | None = asked(self.address, "pixel_maps", images)
        return found


@dataclass(frozen=True)
class ServedAlone(SlideAlone):
    """What learns from each slide itself, with a network that another process runs."""

    address: str = ""

    def dense_maps(self) -> DenseMaps:
        """Give the network with the layers that fields are pooled from."""
        return ServedMaps(self.features, super().dense_maps().layers, self.address)


def served(model: ScoringModel, address: str) -> ScoringModel:
    """Return a model of this process that computes at `address`."""
    kind = ServedAlone if isinstance(model, SlideAlone) else ServedModel
    known = {part.name: getattr(model, part.name) for part in fields(type(model))}  # type: ignore[arg-type]
    found: ScoringModel = kind(**known, address=address)
    return found
