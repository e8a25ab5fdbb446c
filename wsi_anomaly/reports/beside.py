"""Why a region is flagged, for pages: its field beside the nearest normal ones."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wsi_anomaly.core.small_pictures import made_anew
from wsi_anomaly.results.region_file import Shown, shown
from wsi_anomaly.scoring.top_fields import BesideNormal, NormalField


def picture_uri(stream: bytes | None) -> str:
    """Give a JPEG as a ``data:`` address; empty for none."""
    return f"data:image/jpeg;base64,{base64.b64encode(stream).decode()}" if stream else ""


def farther_text(percent: float) -> str:
    """Say how far a normal field is, beside how far normal fields are from each other."""
    if percent >= 100:
        return "farther than any normal field is from its nearest"
    return f"farther than {np.floor(percent * 10) / 10:g}% of normal fields are from their nearest"


@dataclass
class BesideRows:
    """What a page shows of a slide's fields; a normal field that stands beside many is held once.

    Attributes
    ----------
    beside
        The slide's fields.
    pictures
        Addresses of the normal fields' pictures, in the order of their numbers.
    """

    beside: BesideNormal | None
    pictures: list[str] = field(default_factory=list)
    _numbers: dict[NormalField, int] = field(default_factory=dict)

    def of_region(self, region: int) -> dict[str, Any] | None:
        """Row of a region, from 1; None where nothing is known of it."""
        return None if self.beside is None else self._row(self.beside.regions == region)

    def of_field(self, index: int) -> dict[str, Any] | None:
        """Row of a field of the score map."""
        return None if self.beside is None else self._row(self.beside.fields == index)

    def _row(self, which: Any) -> dict[str, Any] | None:
        at = np.flatnonzero(which)
        if self.beside is None or not len(at):
            return None
        found = shown(self.beside, int(at[0]))
        row = row_of(found) | {"numbers": [self._number(n) for n, _, _ in found.normals]}
        for normal, number in zip(row["normals"], row["numbers"], strict=True):
            normal["pictured"] = bool(self.pictures[number])
        return row

    def _number(self, normal: NormalField) -> int:
        if normal not in self._numbers:
            self._numbers[normal] = len(self.pictures)
            self.pictures.append(picture_uri(made_anew(normal.picture)))
        return self._numbers[normal]


def row_of(found: Shown) -> dict[str, Any]:
    """Give what a page says of a field and of the normal ones beside it."""
    return {
        "picture": picture_uri(found.picture),
        "field_um": found.field_um,
        "sentence": found.sentence,
        "normals": [
            {
                "slide": normal.slide,
                "place": [round(v) for v in normal.place],
                "distance": f"{distance:.2f}",
                "farther": farther_text(farther),
            }
            for normal, distance, farther in found.normals
        ],
    }
