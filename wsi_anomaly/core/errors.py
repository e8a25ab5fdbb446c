"""Errors written for the person who will read them.

Every message is one sentence: what is wrong, with which file, what to do about it. The command
line prints it as it is and exits with ``exit_code``; nothing else is shown without ``--debug``.
"""

from __future__ import annotations

import sys
import warnings


class WsiAnomalyError(Exception):
    """Something could not be processed; the message says what, which file, and the remedy."""

    exit_code = 1


class UsageError(WsiAnomalyError):
    """The request itself is wrong: an option, a path that does not exist, a contradiction."""

    exit_code = 2


class SlideError(WsiAnomalyError):
    """A slide cannot be used."""


class NotASlideError(SlideError):
    """The file is no slide that any backend can open, or it is damaged."""


class MissingMppError(SlideError):
    """Nothing in the slide says how large a pixel is, and nobody has said it either."""


class TooCoarseError(SlideError):
    """The slide's finest level is coarser than every magnification that was asked for."""


class NoTissueError(SlideError):
    """No tissue was found on the slide."""


class StainError(WsiAnomalyError):
    """A stain matrix cannot be estimated from these pixels."""


class TileStoreError(WsiAnomalyError):
    """A tile file is missing, damaged, or not what the command needs."""


class EmbeddingsError(WsiAnomalyError):
    """Embeddings of another program are damaged, or do not belong to their slide or the model."""


class ModelError(WsiAnomalyError):
    """A model folder is missing, damaged, of another version, or does not fit the request."""


class MemoryShortError(WsiAnomalyError):
    """The memory of the device or of the machine does not suffice; nothing is damaged."""


class AnnotationError(WsiAnomalyError):
    """An annotation file cannot be read or does not lie on the slide."""


class OutputError(WsiAnomalyError):
    """An output cannot be written: no permission, no space, or something in the way.

    Attributes
    ----------
    for_all
        Whether the next outputs would fare no better: the disk is full, nothing can be written.
    """

    def __init__(self, *message: object, for_all: bool = False) -> None:
        super().__init__(*message)
        self.for_all = for_all


class PluginError(WsiAnomalyError):
    """A network, detector or reader of another package is broken; the message names the package."""


def warn_the_caller(text: str) -> None:
    """Say what a plan notes, of the line that called the verb: the first that is not ours."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals["__name__"].split(".")[0] == "wsi_anomaly":
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)
