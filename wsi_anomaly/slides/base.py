"""What a slide is, whatever file it comes from.

A backend supplies the levels and :meth:`Slide.read_level`; everything that decides what a person
sees (which level, which resampling, what stands where nothing was scanned) is written once, here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core import journal, plugins
from wsi_anomaly.core.errors import MissingMppError, SlideError, UsageError
from wsi_anomaly.core.file_names import as_text
from wsi_anomaly.core.registry import Registry
from wsi_anomaly.slides.resample import falls_on_pixels, level_span, resample
from wsi_anomaly.slides.timeout import HangingError, read_timeout, within

RGB = NDArray[np.uint8]

LEVEL_TOLERANCE = 1.05
"""A level up to 5% coarser than asked for still serves: less than two scanners differ by."""

MAX_SIDE_PX = 1 << 21
"""Half a metre at 40x: a header that claims more is damaged."""

_MOST_HANGING = 5
"""Reads in a row that may hang before the slide is given up."""

_SMALLEST_PART_PX = 32
_DAMAGED_GREY = 160  # neither glass nor tissue
_MAX_SOURCE_PX = 16_000_000  # 48 MB: larger regions are read in parts


class ReadError(SlideError):
    """A region cannot be decoded; other regions of the slide may well be."""


@dataclass(frozen=True)
class Mpp:
    """Micrometres per level-0 pixel, and where the figure comes from."""

    x: float
    y: float
    source: str


@dataclass(frozen=True)
class Bounds:
    """The scanned area, in level-0 pixels from the file's origin."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Region:
    """Pixels of a slide.

    Attributes
    ----------
    rgb
        (h, w, 3) uint8; the slide's background colour where nothing was scanned.
    coverage
        (h, w) bool, False where nothing was ever scanned; None when all of it was.
    """

    rgb: RGB
    coverage: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class SlideInfo:
    """What a backend knows once it has opened a file.

    Attributes
    ----------
    mpp_problem
        Where `mpp` is None: what the file says of it and cannot be used, a phrase for people.
    left_out
        What else the file holds and is not looked at, a phrase each, for people.
    """

    width: int
    height: int
    level_dimensions: tuple[tuple[int, int], ...]
    level_downsamples: tuple[float, ...]
    mpp: Mpp | None
    bounds: Bounds
    background: tuple[int, int, int] = (255, 255, 255)
    objective_power: float | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    mpp_problem: str = ""


class Slide(ABC):
    """An open slide. A context manager; pickled by path, a copy opens the file again.

    A reader is a class derived from this one, made with ``(path, mpp=...)``, where `mpp` is what
    the user says of the pixel size (a number, or an :class:`Mpp`), or None. One that knows of
    several images in a file says so with ``has_scenes``, and is made with ``scene=`` too where
    the user chooses one.

    Attributes
    ----------
    path, name
        File, and its name without suffix as text.
    backend
        Name of the reader: that of its registration.
    suffixes
        Endings of files (".abc") that are this reader's, unless they are among ours.
    scene
        The image of the file that the user has chosen, from 1; None: it is chosen here.
    info
        Dimensions, levels, bounds and metadata; its entries are attributes of the slide too.
    """

    backend: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = ()
    has_scenes: ClassVar[bool] = False

    def __init__(self, path: Path, info: SlideInfo, *, scene: int | None = None) -> None:
        self.path = path
        self.scene = scene
        self.name = as_text(path.stem)
        self.info = info
        self.width, self.height = info.width, info.height
        self.level_dimensions = info.level_dimensions
        self.level_downsamples = info.level_downsamples
        self.bounds = info.bounds
        self.background = info.background
        self.objective_power = info.objective_power
        self.properties = info.properties
        self.left_out = info.left_out
        self._timeout = read_timeout()
        self._hanging = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        journal.closed(self.path)

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    @abstractmethod
    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Region:
        """Pixels of one level as they are stored; `x`, `y` in pixels of that level.

        The rectangle may reach beyond the level.

        Raises
        ------
        ReadError
            A part of it cannot be decoded. The slide stays usable.
        """

    def stored(self, level: int, x: int, y: int, width: int, height: int) -> Region:
        """:meth:`read_level`, whose unexpected errors name the package that the reader is from.

        Raises
        ------
        ReadError
            As there.
        PluginError
            The reader of another package fails otherwise.
        """
        journal.reads(self.path)
        with READERS.blaming(self.backend):
            return self.read_level(level, x, y, width, height)

    def _patiently(
        self, read: Callable[[], Region], place: Callable[[], object] = lambda: None
    ) -> Region:
        """Read, but do not wait for ever; for backends.

        Raises
        ------
        ReadError
            The read hangs: it is a damaged region like others.
        SlideError
            Several reads in a row hang: so will the rest.
        """
        try:
            region = within(self._timeout, read, place)
        except HangingError as error:
            self._hanging += 1
            if self._hanging >= _MOST_HANGING:
                raise SlideError(
                    f"{self.path} does not answer ({_MOST_HANGING} reads in a row came to nothing "
                    f"within {self._timeout:g} s each); check its disk or network and run the "
                    "same command again."
                ) from error
            raise ReadError(f"{self.path} cannot be read: {error}.") from error
        self._hanging = 0
        return region

    @property
    def mpp(self) -> Mpp:
        """Micrometres per level-0 pixel.

        Raises
        ------
        MissingMppError
            Nothing says how large a pixel is, or what does cannot be used.
        """
        if self.info.mpp is None:
            problem = self.info.mpp_problem
            says = f"says {problem}" if problem else "does not say how large a pixel is"
            raise MissingMppError(
                f"{self.path} {says}; give micrometres per pixel with "
                "--mpp, or for many slides with --mpp-csv FILE (lines of slide,mpp) or in the "
                "column mpp of a manifest."
            )
        return self.info.mpp

    @property
    def finest_mpp(self) -> float:
        """The coarser of level 0's two pixel sides, um: what decides which magnifications serve."""
        return max(self.mpp.x, self.mpp.y)

    def best_level(self, mpp: float) -> int:
        """Find the coarsest level that still has the detail of `mpp`; level 0 when none has."""
        most = mpp * LEVEL_TOLERANCE
        return self._coarsest(lambda downsample: self.finest_mpp * downsample <= most)

    def _coarsest(self, serves: Callable[[float], bool]) -> int:
        """Find the coarsest level whose downsample serves, the first of equals."""
        levels = [level for level, d in enumerate(self.level_downsamples) if serves(d)]
        return max(levels, key=lambda level: self.level_downsamples[level], default=0)

    def read(self, x: float, y: float, size_px: tuple[int, int], mpp: float) -> Region:
        """Read a region at exactly `mpp` micrometres per pixel.

        Parameters
        ----------
        x, y
            Top left corner, level-0 pixels; need not be whole.
        size_px
            Width and height of the result, pixels.
        mpp
            Micrometres per pixel of the result. The best level is resampled to it, with
            antialiasing.

        Raises
        ------
        ReadError
            A part of it cannot be decoded.
        """
        level = self.best_level(mpp)
        downsample = self.level_downsamples[level]
        scale_x = mpp / (self.mpp.x * downsample)
        scale_y = mpp / (self.mpp.y * downsample)
        width, height = size_px
        if width * scale_x * height * scale_y > _MAX_SOURCE_PX and max(width, height) > 1:
            return self._read_in_halves(x, y, size_px, mpp)

        corner = x / downsample, y / downsample
        limits = self.level_dimensions[level]
        exact = bool(
            falls_on_pixels(corner[0], scale_x, width)
            and falls_on_pixels(corner[1], scale_y, height)
        )
        left, right = level_span(corner[0], corner[0], width, scale_x, limits[0], exact)
        top, bottom = level_span(corner[1], corner[1], height, scale_y, limits[1], exact)
        source = self.stored(level, left, top, right - left, bottom - top)
        rgb = resample(source.rgb, *corner, scale_x, scale_y, size_px, (left, top))
        if source.coverage is None:
            return Region(rgb)
        columns = ((np.arange(width) + 0.5) * scale_x + corner[0] - left).astype(np.intp)
        rows = ((np.arange(height) + 0.5) * scale_y + corner[1] - top).astype(np.intp)
        coverage = source.coverage[np.ix_(rows, columns)]
        return Region(rgb, None if coverage.all() else coverage)

    def _read_in_halves(self, x: float, y: float, size_px: tuple[int, int], mpp: float) -> Region:
        width, height = size_px
        if width >= height:
            half = width // 2
            first = self.read(x, y, (half, height), mpp)
            second = self.read(x + half * mpp / self.mpp.x, y, (width - half, height), mpp)
            axis = 1
        else:
            half = height // 2
            first = self.read(x, y, (width, half), mpp)
            second = self.read(x, y + half * mpp / self.mpp.y, (width, height - half), mpp)
            axis = 0
        rgb = np.concatenate((first.rgb, second.rgb), axis)
        if first.coverage is None and second.coverage is None:
            return Region(rgb)
        parts = [
            np.ones(part.rgb.shape[:2], bool) if part.coverage is None else part.coverage
            for part in (first, second)
        ]
        return Region(rgb, np.concatenate(parts, axis))

    def thumbnail(self, max_px: int) -> RGB:
        """Picture of the scanned area whose longer side has `max_px` pixels; square pixels.

        Needs no mpp: it is made from the coarsest level that is large enough. What is damaged is
        grey.
        """
        from PIL import Image

        scale = max_px / max(self.bounds.width, self.bounds.height)
        level = self._coarsest(lambda downsample: downsample * scale <= 1)
        downsample = self.level_downsamples[level]
        size = (
            max(1, round(self.bounds.width * scale)),
            max(1, round(self.bounds.height * scale)),
        )
        picture = Image.new("RGB", size, self.background)
        # Strips keep the memory bounded on slides that have a single level.
        strip = max(1, int(_MAX_SOURCE_PX * downsample * scale / (self.bounds.width / downsample)))
        for top in range(0, size[1], strip):
            rows = min(strip, size[1] - top)
            source = self._readable(
                level,
                int(self.bounds.x / downsample),
                int((self.bounds.y + top / scale) / downsample),
                max(1, round(self.bounds.width / downsample)),
                max(1, round(rows / scale / downsample)),
            )
            part = Image.fromarray(source).resize(
                (size[0], rows), Image.Resampling.BOX, reducing_gap=2.0
            )
            picture.paste(part, (0, top))
        return np.asarray(picture)

    def _readable(self, level: int, x: int, y: int, width: int, height: int) -> RGB:
        """Pixels of a level; around damage in halves, and grey in its place."""
        try:
            return self.stored(level, x, y, width, height).rgb
        except ReadError:
            if max(width, height) <= _SMALLEST_PART_PX:
                return np.full((height, width, 3), _DAMAGED_GREY, np.uint8)
        if width >= height:
            half = width // 2
            parts = (x, y, half, height), (x + half, y, width - half, height)
            axis = 1
        else:
            half = height // 2
            parts = (x, y, width, half), (x, y + half, width, height - half)
            axis = 0
        return np.concatenate([self._readable(level, *part) for part in parts], axis)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _reopen, (str(self.path), self.backend, self.info.mpp, self.scene)

    def __repr__(self) -> str:
        return f"<Slide {self.path} ({self.backend}, {self.width} x {self.height} px)>"


READERS: Registry[Any] = plugins.READERS
"""Readers by name: classes derived from :class:`Slide`."""


def make_slide(reader: str, path: Path, mpp: Mpp | float | None, scene: int | None = None) -> Slide:
    """Open a file with the reader of a name.

    Raises
    ------
    UsageError
        An image is chosen that this reader cannot choose.
    """
    kind: Any = READERS.get(reader)
    if scene is not None and not kind.has_scenes:
        if scene != 1:
            raise UsageError(f"{path} has one image for the {reader} reader; leave --scene away.")
        scene = None
    with READERS.blaming(reader):
        slide: Slide = kind(path, mpp=mpp, **({} if scene is None else {"scene": scene}))
    return slide


def _reopen(path: str, backend: str, mpp: Mpp | None, scene: int | None) -> Slide:
    """Open the same file again the same way: how a slide travels between processes."""
    return make_slide(backend, Path(path), mpp, scene)
