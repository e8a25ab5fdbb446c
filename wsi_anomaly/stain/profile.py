"""What is known of a slide's stains, and of those that all slides are brought to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import StainError

_MIN_ANGLE_DEGREES = 2.0
# Of fits to 677 single pictures of H&E none passes both limits: a stain as blue absorbs red too.
_MOST_BLUE, _LITTLE_RED = 0.95, 0.7  # times what it absorbs of green
_BROWN_RED = 0.3


@dataclass(frozen=True, eq=False)
class StainProfile:
    """Stain vectors and strengths of one slide.

    Attributes
    ----------
    matrix
        (2, 3) float64: optical density of red, green, blue for hematoxylin, then eosin; unit rows.
    maxima
        (2,) float64: 99th percentile of either concentration over the slide's tissue.
    white
        (3,) float64: intensity of bare glass, against which optical density is measured.

    Raises
    ------
    StainError
        The figures are no stain profile: not finite, negative, or two stains that are one.

    Examples
    --------
    >>> profile = StainProfile([[0.65, 0.704, 0.286], [0.07, 0.992, 0.105]], maxima=[1.5, 1.0])
    >>> round(profile.angle_degrees)
    39
    """

    matrix: NDArray[np.float64]
    maxima: NDArray[np.float64]
    white: NDArray[np.float64]

    def __init__(self, matrix: Any, maxima: Any, white: Any = (255.0, 255.0, 255.0)) -> None:
        for name, value, shape in (
            ("matrix", matrix, (2, 3)),
            ("maxima", maxima, (2,)),
            ("white", white, (3,)),
        ):
            array = np.array(value, np.float64)
            if array.shape != shape or not np.isfinite(array).all() or (array < 0).any():
                raise StainError(f"A stain {name} has {shape} finite, non-negative figures.")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        lengths = np.linalg.norm(self.matrix, axis=1)
        if not np.allclose(lengths, 1, atol=1e-3):
            raise StainError("The rows of a stain matrix have length one.")
        if self.angle_degrees < _MIN_ANGLE_DEGREES:
            raise StainError("Only one stain can be told apart.")
        if (self.maxima <= 0).any() or (self.white < 1).any():
            raise StainError("A stain is absent, or the glass is black.")

    @property
    def angle_degrees(self) -> float:
        """Angle between the two stain vectors."""
        return float(np.degrees(np.arccos(np.clip(self.matrix[0] @ self.matrix[1], -1, 1))))

    @property
    def doubt(self) -> str:
        """A sentence where the colours cannot be hematoxylin and eosin; "" where they can.

        For what Vahadane's method finds; Macenko's goes to the edge of the colours of real H&E too.
        Both absorb green most. A stain that absorbs as much blue and little red is the chroma of a
        picture whose colour space was swapped or not decoded (pink and green), or a brown one.
        """
        for red, green, blue in self.matrix.tolist():
            if blue > _MOST_BLUE * green and red < _LITTLE_RED * green:
                brown = red > _BROWN_RED * green
                cause = (
                    "another stain, such as the brown of immunohistochemistry"
                    if brown
                    else "a colour space that was swapped or not decoded (the slide looks pink and "
                    "green), or another stain"
                )
                return (
                    "Its colours cannot be hematoxylin and eosin: one stain absorbs red, green and "
                    f"blue as {red:.2f}, {green:.2f}, {blue:.2f}, which means {cause}. Nothing was "
                    "ever measured on such slides: look at the slide before anything else."
                )
        return ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StainProfile) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.matrix.tobytes(), self.maxima.tobytes(), self.white.tobytes()))

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, for JSON."""
        return {
            "matrix": self.matrix.tolist(),
            "maxima": self.maxima.tolist(),
            "white": self.white.tolist(),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` gave; anything else raises :class:`StainError`."""
        try:
            return cls(value["matrix"], value["maxima"], value.get("white", (255.0,) * 3))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StainError(f"This is no stain profile: {error}.") from error


def reference_target() -> StainProfile:
    """Return the target that ships with the project: an evenly stained H&E section.

    Made for this project, from no image: hematoxylin and eosin directions between those that
    Ruifrok and Johnston (2001) measured and those that Vahadane's method finds on today's
    scanners, concentrations of a section of ordinary strength, glass that is white.
    """
    matrix = np.array([[0.60, 0.73, 0.32], [0.22, 0.93, 0.28]])
    return StainProfile(matrix / np.linalg.norm(matrix, axis=1, keepdims=True), (2.0, 1.8))
