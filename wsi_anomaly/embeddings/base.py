"""Embeddings of a slide's fields that another program has made, as its file holds them.

Each format has a module with a :class:`Reader`. What they give is checked here once: the numbers
are finite, the places lie on the slide, the fields have a size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import EmbeddingsError
from wsi_anomaly.core.magnification import check_mpp
from wsi_anomaly.slides import Mpp, Slide
from wsi_anomaly.slides.base import MAX_SIDE_PX

MOST_FIELDS = 2_000_000
WIDEST = 16_384
LARGEST_PIECE = 1 << 28
"""Bytes that are read of a file at once; a chunk that claims more is refused."""
_BLOCK = 1 << 24  # bytes
_WINDOW = 64  # fields side by side in a file are read in one go
_LARGEST_FIELD_UM = 2048
_SIZE_TOLERANCE = 1.3  # programs take a scanner's 0.3 um a pixel for 40x
DAMAGED = (
    OSError, EOFError, LookupError, ValueError, TypeError, AttributeError, RuntimeError,
    ArithmeticError,
)  # fmt: skip
"""What readers of other people's formats raise on a damaged file."""


class Rows(Protocol):
    """Numbers (N, D) that are read by slices: an array, or a dataset of an open file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N and D."""

    @property
    def dtype(self) -> Any:
        """Of its numbers."""

    def __getitem__(self, rows: slice, /) -> Any:
        """Read some rows, (n, D)."""


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Embeddings of one slide; readable as long as its file is open.

    Attributes
    ----------
    path
        The file.
    encoder
        Who made them; "" where the file does not say.
    features
        (N, D) floats.
    coords
        (N, 2) int64, top left corner of each field, level-0 pixels.
    field_level0, step_level0
        Side of a field, and from one to the next, level-0 pixels.
    field_um
        Side of a field, um, as its maker meant it; None: known from the slide alone.
    mpp
        Micrometres per level-0 pixel, as the file says; None: it does not.
    slide_size
        Width and height of the slide, level-0 pixels; None: the file does not say.
    shares
        (N,) float32, share of tissue that the embeddings were averaged over; None: not known.
    """

    path: Path
    encoder: str
    features: Rows
    coords: NDArray[np.int64]
    field_level0: float
    step_level0: float
    field_um: float | None = None
    mpp: float | None = None
    slide_size: tuple[int, int] | None = None
    shares: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        wrong = self._wrong_shape() or self._wrong_size()
        if wrong:
            raise self.error(wrong)
        if self.mpp is not None:
            check_mpp(self.mpp)
        if self.slide_size is not None:
            self._check_places(*self.slide_size)

    def _wrong_shape(self) -> str:
        shape, count = self.features.shape, len(self.coords)
        if len(shape) == 1 or (len(shape) == 2 and shape[0] == 1 != count):
            return "holds one embedding of the whole slide, not of its fields"
        if len(shape) != 2 or self.coords.shape != (shape[0], 2):
            return f"holds {shape} numbers for {count} places"
        if not count:
            return "holds no field"
        if count > MOST_FIELDS or not 1 <= shape[1] <= WIDEST:
            return f"claims {shape[0]} embeddings of {shape[1]} numbers"
        if np.dtype(self.features.dtype).kind != "f":
            return f"holds {self.features.dtype} where numbers should be"
        if self.shares is not None and self.shares.shape != (count,):
            return "has other shares of tissue than fields"
        return ""

    def _wrong_size(self) -> str:
        if not (0 < self.step_level0 <= MAX_SIDE_PX and 1 <= self.field_level0 <= MAX_SIDE_PX):
            return "does not say how large its fields are"
        if self.coords.min() < -self.field_level0 or self.coords.max() > MAX_SIDE_PX:
            return "has coordinates that lie on no slide"
        if self.field_um is not None and not 1 <= self.field_um <= _LARGEST_FIELD_UM:
            return f"has fields of {self.field_um:g} um"
        return ""

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def width(self) -> int:
        """How many numbers an embedding has."""
        return self.features.shape[1]

    def error(self, what: str) -> EmbeddingsError:
        """Make the sentence that says what is wrong with the file."""
        return EmbeddingsError(f"{self.path} {what}; make the embeddings of this slide again.")

    def blocks(self, rows: int | None = None) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Read all embeddings, (n, D) at a time, with their place among them.

        Raises
        ------
        EmbeddingsError
            Some are not finite, or cannot be read.
        """
        rows = rows or max(1, _BLOCK // (self.width * 4))
        for start in range(0, len(self), rows):
            place = slice(start, min(start + rows, len(self)))
            yield place, self.read(place)

    def read(self, place: slice) -> NDArray[np.float32]:
        """Read some embeddings, (n, D); as :meth:`blocks`."""
        try:
            found = np.ascontiguousarray(self.features[place], np.float32)
        except DAMAGED as error:
            raise self.error(f"is damaged ({' '.join(str(error).split())})") from error
        # One sum is nearly as good as a look at each number, and reads memory once.
        with np.errstate(all="ignore"):
            total = found.sum()
        if not np.isfinite(total) and not (finite := np.isfinite(found).all(1)).all():
            bad = place.start + int(np.argmin(finite))
            raise self.error(f"holds numbers that are not finite, first in field {bad}")
        return found

    def rows(self, chosen: NDArray[np.intp]) -> NDArray[np.float32]:
        """Read the embeddings of some fields (n,), (n, D); as :meth:`blocks`."""
        out = np.empty((len(chosen), self.width), np.float32)
        window = chosen // _WINDOW
        for number in np.unique(window).tolist():
            start, mine = number * _WINDOW, window == number
            found = self.read(slice(start, min(start + _WINDOW, len(self))))
            out[mine] = found[chosen[mine] - start]
        return out

    def pixel_size(self, slide: Slide | None) -> Mpp:
        """Micrometres per level-0 pixel: the slide's, else what the file says or implies.

        Raises
        ------
        EmbeddingsError
            Neither says so.
        """
        if slide is not None:
            return slide.mpp
        found = self.mpp or (self.field_um and self.field_um / self.field_level0)
        if not found:
            raise EmbeddingsError(
                f"{self.path} does not say how large a pixel is; give the slides too, or --mpp."
            )
        return Mpp(found, found, "the embeddings")

    def check_slide(self, slide: Slide) -> None:
        """See that these are embeddings of a slide: size, pixels, places.

        Raises
        ------
        EmbeddingsError
            They are not.
        """
        size = (slide.width, slide.height)
        if self.slide_size not in (None, size):
            raise EmbeddingsError(
                f"{self.path} is of a slide of {_by(self.slide_size)} px, and {slide.path} has "
                f"{_by(size)}; give the slide that it was made of."
            )
        self._check_places(*size)
        if self.field_um is not None:
            um = self.field_level0 * slide.mpp.x
            if not 1 / _SIZE_TOLERANCE <= um / self.field_um <= _SIZE_TOLERANCE:
                raise EmbeddingsError(
                    f"{self.path} has fields of {self.field_um:g} um, which on {slide.path} would "
                    f"be {um:.4g} um ({slide.mpp.x:.3g} um a pixel); give the slide's --mpp, or "
                    "make the embeddings again."
                )

    def _check_places(self, width: int, height: int) -> None:
        reach = self.coords + self.field_level0
        outside = ((self.coords >= (width, height)) | (reach <= 0)).any(1)
        if outside.any():
            x, y = self.coords[outside][0].tolist()
            raise EmbeddingsError(
                f"{self.path} has {int(outside.sum())} fields outside the slide ({width} x "
                f"{height} px), such as at ({x}, {y}); see whether its coordinates are of level 0."
            )


def _by(size: Sequence[int] | None) -> str:
    return " x ".join(map(str, size or ()))


class Reader(Protocol):
    """How a format is found and read."""

    def is_one(self, path: Path) -> bool:
        """Whether a file or folder looks like embeddings of this format, by its name and place."""

    def name(self, path: Path) -> str:
        """Name of the slide that it is of, without suffix."""

    def open(
        self, path: Path, root: Path, encoder: str | None
    ) -> AbstractContextManager[Embeddings]:
        """Open it.

        Parameters
        ----------
        path, root
            The file, and the folder that was searched: what belongs to it lies there too.
        encoder
            The one that is wanted, where a file holds several; None: there is one.

        Raises
        ------
        EmbeddingsError, or any of :data:`DAMAGED`
            It cannot be used.
        """
