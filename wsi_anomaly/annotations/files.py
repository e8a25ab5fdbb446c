"""One way to read outlines, whatever the file."""

from __future__ import annotations

import os
from pathlib import Path

from wsi_anomaly.annotations.asap import read_asap
from wsi_anomaly.annotations.masks import outlines_from_mask, read_mask
from wsi_anomaly.annotations.outlines import Outline
from wsi_anomaly.annotations.qupath import read_geojson
from wsi_anomaly.core.errors import AnnotationError

MASK_SUFFIXES = (".png", ".tif", ".tiff")
SUFFIXES = (".geojson", ".json", ".geojson.gz", ".json.gz", ".xml", *MASK_SUFFIXES)
"""What :func:`read_outlines` reads."""


def read_outlines(
    path: str | os.PathLike[str],
    *,
    level0_size: tuple[int, int] | None = None,
    label: str = "",
) -> list[Outline]:
    """Outlines of an annotation file; the suffix says which format.

    Parameters
    ----------
    path
        QuPath GeoJSON (``.geojson``, ``.json``, either with ``.gz``), ASAP or Camelyon XML
        (``.xml``), or a mask image (``.png``, ``.tif``).
    level0_size
        Width and height of the slide, level-0 pixels; needed for a mask image only.
    label
        Label of a mask's outlines; the other formats carry their own.

    Raises
    ------
    AnnotationError
        The file cannot be used; the sentence says why and what to do.
    """
    name = Path(path).name.lower()
    if name.endswith(MASK_SUFFIXES):
        if level0_size is None:
            raise AnnotationError(
                f"{path} is a mask image, whose scale only its slide tells; "
                "give outlines (GeoJSON or XML) here."
            )
        try:
            return outlines_from_mask(read_mask(path), level0_size, label)
        except AnnotationError as error:
            message = str(error)
            raise AnnotationError(
                message if message.startswith(str(path)) else f"{path}: {message}"
            ) from error
    if name.endswith(".xml"):
        return read_asap(path)
    if name.endswith(SUFFIXES):
        return read_geojson(path)
    raise AnnotationError(
        f"{path} is no annotation file that is known; give one of {', '.join(SUFFIXES)}."
    )
