"""What an OME-XML text says: its images, how large their pixels are, and which lie in this file."""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from wsi_anomaly.core.tables import parse_number

_NO_LENGTHS = ("pixel", "reference frame")
_UM_PER = {"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6}


@dataclass(frozen=True)
class OmeImage:
    """One image of a set: its name, width and height in pixels, and its properties."""

    name: str
    size: tuple[int, int]
    properties: dict[str, str]


@dataclass(frozen=True)
class OmeSet:
    """The images of a set, wherever they lie.

    Attributes
    ----------
    images
        In the order of the text.
    own_xml
        The text without what lies in other files, each image named by its number: the tables of
        another file's tiles are never applied to this one.
    """

    images: tuple[OmeImage, ...]
    own_xml: str


def read_ome(text: str, file_name: str) -> OmeSet | None:
    """Read an OME-XML text that stands in a file; None if it is none, or could explode."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return None  # OME-XML has neither, and entities can be made to explode
    try:
        root = ET.fromstring(text)  # noqa: S314 - no entities, see above
    except ET.ParseError:
        return None
    objectives = {
        element.get("ID", ""): element.get("NominalMagnification", "")
        for element in _tagged(root.iter(), "Objective")
    }
    own_uuid, images = root.get("UUID"), []
    for number, image in enumerate(_tagged(root, "Image")):
        pixels = next(_tagged(image, "Pixels"), None)
        images.append(_image(image, pixels, objectives, number))
        image.set("Name", str(number))
        if pixels is not None:
            _keep_own_data(pixels, own_uuid, file_name)
    return OmeSet(tuple(images), ET.tostring(root, encoding="unicode"))


def _keep_own_data(pixels: ET.Element, own_uuid: str | None, file_name: str) -> None:
    """Take away what lies in other files, and the names of files from what lies in this one."""
    for data in _tagged(pixels, "TiffData"):
        for uuid in _tagged(data, "UUID"):
            named = uuid.get("FileName", "").replace("\\", "/").rpartition("/")[2]
            own = (uuid.text or "").strip() == own_uuid if own_uuid else named == file_name
            if own:
                data.remove(uuid)
            else:
                pixels.remove(data)
                break


def _image(
    image: ET.Element, pixels: ET.Element | None, objectives: dict[str, str], number: int
) -> OmeImage:
    properties: dict[str, str] = {}
    size = (0, 0)
    if pixels is not None:
        with contextlib.suppress(ValueError):
            size = int(pixels.get("SizeX", "0")), int(pixels.get("SizeY", "0"))
        for axis in "XY":
            stated = pixels.get(f"PhysicalSize{axis}", "").strip()
            unit = pixels.get(f"PhysicalSize{axis}Unit", "µm")
            side, um = parse_number(stated), _UM_PER.get(unit)
            if side is not None and um is not None:
                properties[f"ome.PhysicalSize{axis}"] = repr(side * um)
            elif stated and unit not in _NO_LENGTHS:
                properties[f"ome.PhysicalSize{axis}"] = f"{stated} {unit}"  # for the message
    used = next((e.get("ID", "") for e in _tagged(image, "ObjectiveSettings")), "")
    power = objectives.get(used) or next((text for text in objectives.values() if text), "")
    if power:
        properties["ome.NominalMagnification"] = power
    return OmeImage(image.get("Name") or f"image {number + 1}", size, properties)


def _tagged(elements: Iterable[ET.Element], tag: str) -> Iterator[ET.Element]:
    return iter([element for element in elements if element.tag.rpartition("}")[2] == tag])
