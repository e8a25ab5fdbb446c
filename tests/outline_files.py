"""Outlines as other programs write them: ASAP's XML, mask images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image
from skimage.draw import polygon as polygon_pixels

from wsi_anomaly.annotations import Outline
from wsi_anomaly.annotations.asap import EXCLUSION


def write_asap(path: Path, outlines: Iterable[Outline]) -> None:
    """Each part of an outline is an annotation, each hole one of the group ``Exclusion``."""
    root = ET.Element("ASAP_Annotations")
    annotations = ET.SubElement(root, "Annotations")
    groups: dict[str, None] = {}
    for outline in outlines:
        for polygon in shapely.get_parts(outline.polygon):
            rings = [(outline.label or "None", polygon.exterior)]
            rings += [(EXCLUSION, hole) for hole in polygon.interiors]
            for group, ring in rings:
                groups.setdefault(group)
                _add_annotation(annotations, group, ring)
    listed = ET.SubElement(root, "AnnotationGroups")
    for group in groups.keys() - {"None"}:
        attributes = {"Name": group, "PartOfGroup": "None", "Color": "#64fe2e"}
        ET.SubElement(ET.SubElement(listed, "Group", attributes), "Attributes")
    ET.indent(root, "\t")
    path.parent.mkdir(parents=True, exist_ok=True)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _add_annotation(parent: ET.Element, group: str, ring: shapely.LinearRing) -> None:
    annotation = ET.SubElement(
        parent,
        "Annotation",
        {"Name": f"Annotation {len(parent)}", "Type": "Polygon", "PartOfGroup": group},
    )
    coordinates = ET.SubElement(annotation, "Coordinates")
    for order, (x, y) in enumerate(ring.coords[:-1]):  # ASAP closes the ring itself
        place = {"Order": str(order), "X": repr(float(x)), "Y": repr(float(y))}
        ET.SubElement(coordinates, "Coordinate", place)


def mask_of_outlines(
    outlines: Iterable[Outline], shape: tuple[int, int], level0_size: tuple[int, int]
) -> NDArray[np.bool_]:
    """Pixels of a mask (h, w) over the whole slide whose centres lie inside the outlines."""
    mask = np.zeros(shape, bool)
    scale = (shape[1] / level0_size[0], shape[0] / level0_size[1])
    for outline in outlines:
        for part in shapely.get_parts(outline.polygon):
            inside = np.zeros(shape, bool)
            for ring in (part.exterior, *part.interiors):
                x, y = (np.asarray(ring.coords) * scale - 0.5).T
                inside[polygon_pixels(y, x, shape)] ^= True
            mask |= inside
    return mask


def write_mask(
    path: Path, outlines: Iterable[Outline], level0_size: tuple[int, int], *, downsample: float
) -> None:
    """PNG over the whole slide, 255 inside and 0 elsewhere."""
    width, height = (max(1, round(side / downsample)) for side in level0_size)
    mask = mask_of_outlines(outlines, (height, width), level0_size)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path, format="PNG")
