"""CZI files that OpenSlide does not take, and single scenes of all, through Zeiss's own library.

It is an extra (``pip install "wsi-anomaly[czi]"``). A slide is one scene: the largest, of its first
plane of focus, unless another is asked for. Positions count from the scene's corner, as in QuPath.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import NotASlideError
from wsi_anomaly.core.staging import where_read
from wsi_anomaly.slides.base import (
    MAX_SIDE_PX,
    READERS,
    RGB,
    Bounds,
    Mpp,
    ReadError,
    Region,
    Slide,
    SlideInfo,
)
from wsi_anomaly.slides.decoding import MAX_TILE_BYTES
from wsi_anomaly.slides.physical import find_mpp, mpp_problem, objective_power

NAME = "czi"

Rectangle = tuple[int, int, int, int]
"""Corner, width and height, level-0 pixels."""

_WHOLE = -1  # stands for the scene of a file that has none
_WHITE = (255, 255, 255)
_COLOURS = ("Bgr24", "Bgr48")
_PLANES = {"Z": "plane", "T": "time point"}
_SMALLEST_LEVEL_PX = 256


@READERS.register(NAME)
class CziSlide(Slide):
    """A scene of a CZI file."""

    has_scenes = True

    def __init__(
        self, path: Path, *, mpp: Mpp | float | None = None, scene: int | None = None
    ) -> None:
        self._file = _open(path)
        try:
            scenes = _scenes(self._file)
            self._scene = _choose(path, scenes, scene)
            self._corner = scenes[self._scene][:2]
            box = self._file.total_bounding_box
            self._plane = {axis: span[0] for axis, span in box.items() if axis not in "XY"}
            self._pieces = _pieces(path, self._file, self._scene, self._corner, self._plane)
            info = _info(self._file, scenes, self._scene, self._pieces, mpp)
        except (RuntimeError, ValueError, KeyError) as error:
            raise _cannot_open(path, error) from error
        super().__init__(path, info, scene=scene)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Region:
        """Pixels of one level as they are stored; see :meth:`Slide.read_level`."""
        return self._patiently(lambda: self._read(level, x, y, width, height))

    def _read(self, level: int, x: int, y: int, width: int, height: int) -> Region:
        scale = round(self.level_downsamples[level])
        limits = self.level_dimensions[level]
        rgb = np.full((height, width, 3), 255, np.uint8)
        covered = np.zeros((height, width), np.bool_)
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, limits[0]), min(y + height, limits[1])
        if left < right and top < bottom:
            here = np.s_[top - y : bottom - y, left - x : right - x]
            found = self._pixels(scale, left, top, right - left, bottom - top)
            rgb[here][: found.shape[0], : found.shape[1]] = found
            for px, py, w, h in self._pieces[scale]:
                covered[
                    max(py // scale - y, 0) : max(-(-(py + h) // scale) - y, 0),
                    max(px // scale - x, 0) : max(-(-(px + w) // scale) - x, 0),
                ] = True
            outside = np.ones_like(covered)
            outside[here] = False
            covered[outside] = False
        rgb[~covered] = self.background
        return Region(rgb, None if covered.all() else covered)

    def _pixels(self, scale: int, x: int, y: int, width: int, height: int) -> RGB:
        corner = self._corner[0] + x * scale, self._corner[1] + y * scale
        try:
            pixels: NDArray[np.generic] = self._file.read(
                roi=(*corner, width * scale, height * scale),
                plane=self._plane,
                scene=None if self._scene == _WHOLE else self._scene,
                zoom=1 / scale,
                pixel_type="Bgr24",
            )
        except (RuntimeError, ValueError) as error:
            raise ReadError(f"{self.path}: {corner} cannot be read: {error}.") from error
        return np.asarray(pixels[:height, :width, ::-1], np.uint8)


def _open(path: Path) -> Any:
    try:
        from pylibCZIrw import czi
    except ImportError as error:
        raise NotASlideError(
            f"{path} needs Zeiss's own library, as OpenSlide does not take it: "
            'pip install "wsi-anomaly[czi]", or leave it out.'
        ) from error
    try:
        return czi.CziReader(str(where_read(path)))
    except (RuntimeError, ValueError) as error:
        raise _cannot_open(path, error) from error


def _cannot_open(path: Path, error: Exception) -> NotASlideError:
    reason = " ".join(str(error).split()).rstrip(".")
    return NotASlideError(
        f"{path} cannot be opened as a slide ({reason}); copy it again or leave it out."
    )


def _scenes(file: Any) -> dict[int, Rectangle]:
    """Where each scene lies, by its number in the file."""
    found = file.scenes_bounding_rectangle_no_pyramid or {
        _WHOLE: file.total_bounding_rectangle_no_pyramid
    }
    return {number: (r.x, r.y, r.w, r.h) for number, r in sorted(found.items())}


def _choose(path: Path, scenes: dict[int, Rectangle], scene: int | None) -> int:
    numbers = list(scenes)
    if scene is None:
        return max(numbers, key=lambda number: scenes[number][2] * scenes[number][3])
    if scene > len(numbers):
        raise NotASlideError(
            f"{path} has no image {scene}, only {len(numbers)}; choose one of them as --scene."
        )
    return numbers[scene - 1]


def _pieces(
    path: Path, file: Any, scene: int, corner: tuple[int, int], plane: dict[str, int]
) -> dict[int, list[Rectangle]]:
    """Where pixels were stored, by how much coarser they are; level-0 pixels from the scene."""
    found: defaultdict[int, list[Rectangle]] = defaultdict(list)
    kinds = set(file.pixel_types.values())
    largest = 0

    def look(_index: int, piece: Any) -> bool:
        nonlocal largest
        where, size = piece.logicalRect, piece.physicalSize
        if piece.coordinate.to_dict().get("S", scene) == scene and size.w > 0:
            scale = round(where.w / size.w)
            found[scale].append((where.x - corner[0], where.y - corner[1], where.w, where.h))
            largest = max(largest, 6 * size.w * size.h)
        return True

    file.enumerate_subblocks_subset(look, plane=plane)
    if not found or kinds == {"Invalid"}:
        raise ValueError("it holds no picture")
    if not kinds <= set(_COLOURS):
        raise NotASlideError(
            f"{path} cannot be used: its pixels are {' and '.join(sorted(kinds))}, no colours of "
            "stained tissue; leave it out."
        )
    if largest > MAX_TILE_BYTES:
        raise NotASlideError(
            f"{path} cannot be used: a piece of it is too large to decode at once; convert it to a "
            "tiled, pyramidal TIFF."
        )
    return dict(found)


def _info(
    file: Any,
    scenes: dict[int, Rectangle],
    scene: int,
    pieces: dict[int, list[Rectangle]],
    mpp: Mpp | float | None,
) -> SlideInfo:
    width, height = scenes[scene][2:]
    if not (0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX):
        raise ValueError(f"it claims {width} x {height} pixels")
    properties = _properties(file.metadata)
    scales = [1] + [s for s in sorted(pieces) if 1 < s <= max(width, height) / _SMALLEST_LEVEL_PX]
    return SlideInfo(
        width=width,
        height=height,
        level_dimensions=tuple((-(-width // s), -(-height // s)) for s in scales),
        level_downsamples=tuple(map(float, scales)),
        mpp=find_mpp(properties, mpp),
        mpp_problem=mpp_problem(properties),
        bounds=Bounds(0, 0, width, height),
        background=_WHITE,
        objective_power=objective_power(properties),
        properties=properties,
        left_out=tuple(_left_out(file, scenes, scene)),
    )


def _left_out(file: Any, scenes: dict[int, Rectangle], scene: int) -> list[str]:
    said = []
    if len(scenes) > 1:
        others = ", ".join(
            f"scene {n + 1} ({w} x {h})" for n, (_, _, w, h) in scenes.items() if n != scene
        )
        verb = "is" if len(scenes) == 2 else "are"
        said.append(f"1 of {len(scenes)} images of the file; {others} {verb} not looked at")
    for axis, name in _PLANES.items():
        first, end = file.total_bounding_box.get(axis, (0, 1))
        if end - first > 1:
            said.append(f"{name} 1 of {end - first}")
    return said


def _properties(metadata: Any) -> dict[str, str]:
    """Read the pixel size, um, and the objective."""
    found = {}
    with contextlib.suppress(KeyError, TypeError, AttributeError):
        items = metadata["ImageDocument"]["Metadata"]["Scaling"]["Items"]["Distance"]
        for item in items if isinstance(items, list) else [items]:
            with contextlib.suppress(ValueError):
                found[f"czi.Scaling{item['@Id']}"] = repr(float(item["Value"]) * 1e6)
    with contextlib.suppress(KeyError, TypeError, AttributeError):
        instrument = metadata["ImageDocument"]["Metadata"]["Information"]["Instrument"]
        lens = instrument["Objectives"]["Objective"]
        lens = lens[0] if isinstance(lens, list) else lens
        found["openslide.objective-power"] = str(lens["NominalMagnification"])
    return found
