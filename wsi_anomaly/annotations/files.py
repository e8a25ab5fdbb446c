"""One way to read outlines, whatever the file."""

from __future__ import annotations

import os
from pathlib import Path

from wsi_anomaly.annotations.asap import read_asap
from wsi_anomaly.annotations.frame import Extent
from wsi_anomaly.annotations.masks import outlines_from_mask, read_mask
from wsi_anomaly.annotations.outlines import Note, Outline
from wsi_anomaly.annotations.qupath import read_geojson
from wsi_anomaly.core.errors import AnnotationError

MASK_SUFFIXES = (".png", ".tif", ".tiff")
SUFFIXES = (".geojson", ".json", ".geojson.gz", ".json.gz", ".xml", *MASK_SUFFIXES)
"""What :func:`read_outlines` reads."""


def read_outlines(
    path: str | os.PathLike[str],
    slide: Extent | None = None,
    *,
    label: str = "",
    note: Note = lambda _text: None,
) -> list[Outline]:
    """Outlines of an annotation file; the suffix says which format.

    The format decides the frame. QuPath counts from the corner of the scanned area, unless
    `slide` or the file itself says otherwise; ASAP counts from that of the slide's file; a mask
    image covers the scanned area.

    Parameters
    ----------
    path
        QuPath GeoJSON (``.geojson``, ``.json``, either with ``.gz``), ASAP or Camelyon XML
        (``.xml``), or a mask image (``.png``, ``.tif``).
    slide
        The slide on which they lie; a mask image cannot do without it.
    label
        Label of a mask's outlines; the other formats carry their own.
    note
        Told what was left out: points, lines, and what encloses nothing.

    Returns
    -------
    In level-0 pixels of the slide, all of it on the slide; without `slide` as the file has them.

    Raises
    ------
    AnnotationError
        The file cannot be used, or was made for another slide; the sentence says why and what to
        do.
    """
    path = Path(path)
    outlines = _read(path, slide, label, note)
    if slide is not None:
        slide.check(path, outlines)
    return outlines


def _read(path: Path, slide: Extent | None, label: str, note: Note) -> list[Outline]:
    name = path.name.lower()
    if name.endswith(MASK_SUFFIXES):
        if slide is None:
            raise AnnotationError(
                f"{path} is a mask image, whose scale only its slide tells; "
                "give outlines (GeoJSON or XML) here."
            )
        x, y, width, height = slide.bounds
        try:
            return outlines_from_mask(read_mask(path), (width, height), label, origin=(x, y))
        except AnnotationError as error:
            message = str(error)
            raise AnnotationError(
                message if message.startswith(str(path)) else f"{path}: {message}"
            ) from error
    if name.endswith(".xml"):
        return read_asap(path, note=note)
    if name.endswith(SUFFIXES):
        return read_geojson(path, slide, note=note)
    raise AnnotationError(
        f"{path} is no annotation file that is known; give one of {', '.join(SUFFIXES)}."
    )
