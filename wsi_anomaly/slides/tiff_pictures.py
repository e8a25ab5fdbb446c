"""Which pictures a TIFF holds, and which of them is the slide.

The first picture need not be the slide: labels stand in front, scenes beside one another, planes
of focus above one another. The largest is taken, of its first plane, unless another is asked for;
what is not looked at is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tifffile

from wsi_anomaly.core.wording import some
from wsi_anomaly.slides.ome import OmeSet, read_ome

_PLANES = {"Z": "plane", "T": "time point"}
_MOST_NAMED = 3
_REDUCED, _REDUCED_OR_MASK = 1, 1 | 4


CONVERT = "convert it to a tiled, pyramidal TIFF with 8 bits a colour, or leave it out"
"""What to do about a file whose pixels no reader takes."""


class StoredError(Exception):
    """Pixels are stored in a way that no reader takes as a slide's. The text says how.

    Attributes
    ----------
    remedy
        What to do about it.
    """

    def __init__(self, reason: str, remedy: str = CONVERT) -> None:
        super().__init__(reason)
        self.remedy = remedy


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes
    ----------
    name
        What the file calls it, for people.
    size
        Width and height, pixels; 0, 0 where nothing says it.
    levels
        Pages of each level, finest first; several where each colour has a page of its own. Empty
        when its pixels cannot be those of a slide.
    reason
        Why `levels` is empty.
    elsewhere
        Whether its pixels lie in another file.
    planes
        What of it is taken, as "plane 1 of 3": of planes of focus and points in time the first.
    properties
        What is known of this picture only.
    """

    name: str
    size: tuple[int, int]
    levels: tuple[tuple[Any, ...], ...] = ()
    reason: str = ""
    elsewhere: bool = False
    planes: tuple[str, ...] = ()
    properties: dict[str, str] = field(default_factory=dict)

    @property
    def area(self) -> int:
        """Pixels of its finest level."""
        return self.size[0] * self.size[1]


def choose(pictures: Sequence[Picture], scene: int | None) -> tuple[Picture, list[str]]:
    """Choose the slide: the largest picture, or the one of the number given (from 1).

    Returns
    -------
    The picture, and what is not looked at, a phrase each.

    Raises
    ------
    StoredError
        There is no such picture, or its pixels are not here, or not those of a slide.
    """
    count = len(pictures)
    if scene is None:
        chosen = max(pictures, key=lambda picture: (not picture.elsewhere, picture.area))
    elif scene <= count:
        chosen = pictures[scene - 1]
    else:
        names = some([_in_words(picture) for picture in pictures], _MOST_NAMED)
        raise StoredError(
            f"it has no image {scene}, only {count}: {names}", "choose one of them as --scene"
        )
    if not chosen.levels:
        raise StoredError(chosen.reason, "give that file" if chosen.elsewhere else CONVERT)
    left_out = list(chosen.planes)
    here = [picture for picture in pictures if not picture.elsewhere]
    others = [_in_words(picture) for picture in here if picture is not chosen]
    if others:
        names, verb = some(others, _MOST_NAMED), "is" if len(others) == 1 else "are"
        left_out.insert(0, f"1 of {len(here)} images of the file; {names} {verb} not looked at")
    return chosen, left_out


def pictures_of(tif: tifffile.TiffFile, file_name: str) -> list[Picture]:
    """List the pictures of a TIFF, in the order of the file."""
    if tif.is_ome:
        text = tif.ome_metadata or ""
        ome = read_ome(text, file_name)
        if ome is not None and (found := _ome_pictures(tif, ome)):
            return found
    return _plain_pictures(tif)


def _in_words(picture: Picture) -> str:
    width, height = picture.size
    return f"{picture.name} ({width} x {height})" if width else picture.name


def _plain_pictures(tif: tifffile.TiffFile) -> list[Picture]:
    """Pages and the reduced copies of each, by OpenSlide's rules."""
    pages: list[Any] = list(tif.pages)
    if tif.is_svs:  # thumbnail, label and macro are not tiled, and known to be no slides
        levels, planes = _without_equals([page for page in pages if page.is_tiled] or pages[:1])
        return [_plain(levels, 1, (f"plane 1 of {planes}",) if planes > 1 else ())]
    whole = [page for page in pages if not page.subfiletype & _REDUCED_OR_MASK] or pages[:1]
    tiled = [page for page in whole if page.is_tiled]
    starts = sorted(page.index for page in tiled)
    found = []
    for number, page in enumerate(whole, 1):
        end = next((start for start in starts if start > page.index), len(pages))
        reduced = [
            p for p in pages[page.index + 1 : end] if p.is_tiled and p.subfiletype & _REDUCED
        ]
        levels, _ = _without_equals([page, *(reduced if page.is_tiled else ())])
        found.append(_plain(levels, number))
    return found


def _plain(pages: Sequence[Any], number: int, planes: tuple[str, ...] = ()) -> Picture:
    first = pages[0]
    return Picture(
        f"image {number}",
        (int(first.imagewidth), int(first.imagelength)),
        tuple((page,) for page in pages),
        planes=planes,
    )


def _without_equals(pages: Sequence[Any]) -> tuple[list[Any], int]:
    """One page of each size, and how many have that of the first: equal sizes are no pyramid."""
    by_size: dict[tuple[int, int], list[Any]] = {}
    for page in pages:
        by_size.setdefault((page.imagewidth, page.imagelength), []).append(page)
    alike = list(by_size.values())
    return [same[0] for same in alike], len(alike[0])


def _ome_pictures(tif: tifffile.TiffFile, ome: OmeSet) -> list[Picture]:
    """Pictures of an OME set; empty when its text says nothing of this file."""
    own = tifffile.TiffFile(tif.filehandle, omexml=ome.own_xml)
    series = {int(s.name): s for s in own.series if s.kind == "ome"}
    if not series:
        return []
    found = []
    for number, image in enumerate(ome.images):
        if number in series:
            found.append(_ome_picture(series[number], image.name, image.properties))
        else:
            reason = f"its image {image.name} lies in another file of its set"
            found.append(Picture(image.name, image.size, reason=reason, elsewhere=True))
    return found


def _ome_picture(series: Any, name: str, properties: dict[str, str]) -> Picture:
    """Make a picture of a series of tifffile's: its first plane, all its colours."""
    first = series.keyframe
    size = int(first.imagewidth), int(first.imagelength)
    axes = [
        (axis, n) for axis, n in zip(series.axes, series.shape, strict=True) if axis not in "YX"
    ]
    colours = [(axis, n) for axis, n in axes if axis not in _PLANES and n > 1]
    if len(colours) > 1 or any(axis not in "SC" or n not in (3, 4) for axis, n in colours):
        reason = f"it has the axes {series.axes} {series.shape}, not one colour picture"
        return Picture(name, size, reason=reason)
    page_axes = [(axis, n) for axis, n in axes if axis != "S"]
    planes, taken = _first_plane(page_axes, [page is not None for page in series.pages])
    if not len(taken):
        return Picture(name, size, reason=f"a part of its image {name} lies in other files")
    levels, sizes = [], set()
    for level in series.levels:
        pages = tuple(level.pages[i] for i in taken)
        if None not in pages:
            keyframe = pages[0].keyframe
            if (keyframe.imagewidth, keyframe.imagelength) not in sizes:
                sizes.add((keyframe.imagewidth, keyframe.imagelength))
                levels.append(pages)
    return Picture(name, size, tuple(levels), planes=planes, properties=properties)


def _first_plane(
    axes: Sequence[tuple[str, int]], here: Sequence[bool]
) -> tuple[tuple[str, ...], list[int]]:
    """Find the first plane all of whose colours are in this file.

    Parameters
    ----------
    axes
        Name and length of the axes along which the pages of a picture lie.
    here
        Which of the pages are in this file.

    Returns
    -------
    What it is, as "plane 1 of 3", and the numbers of its pages; none where there is no such plane.
    """
    shape = [n for _, n in axes]
    if math.prod(shape) != len(here):
        return (), []
    colours_last = sorted(range(len(axes)), key=lambda i: axes[i][0] == "C")
    numbers = np.arange(len(here)).reshape(shape).transpose(colours_last)
    over = [axes[i] for i in colours_last if axes[i][0] != "C"]
    for place in np.ndindex(*(n for _, n in over)):
        pages = np.atleast_1d(numbers[place]).tolist()
        if all(here[page] for page in pages):
            names = zip(over, place, strict=True)
            return tuple(f"{_PLANES[a]} {i + 1} of {n}" for (a, n), i in names if n > 1), pages
    return (), []
