"""``regions.safetensors``: each flagged region's direction, its picture, and normal ones beside it.

So that report, viewer and the page of kinds work without the slide and without the model. Anybody
may have written it: sizes are checked before anything is read, and pictures are made anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.core.files import atomic_file
from wsi_anomaly.core.small_pictures import made_anew, packed, unpacked
from wsi_anomaly.scoring.top_fields import BesideNormal, NormalField

NAME = "regions.safetensors"
_LARGEST_BYTES = 1 << 26
_MOST, _WIDEST = 2_000, 20_000
_LONGEST_NAME = 500


@dataclass(frozen=True, eq=False)
class Shown:
    """One high field beside its nearest normal ones.

    Attributes
    ----------
    region
        Number of its region, from 1; 0: it lies in none.
    picture
        The field, JPEG, or None where the stored one is broken.
    normals
        Normal fields, nearest first, each with its distance and the percentage of normal fields
        that lie nearer to theirs.
    sentence
        What spoke.
    field_um
        Side of what the pictures show.
    """

    region: int
    picture: bytes | None
    normals: Sequence[tuple[NormalField, float, float]]
    sentence: str
    field_um: int


def write_region_file(path: Path, beside: BesideNormal) -> None:
    """Write it.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    from safetensors.numpy import save

    pictures, ends = packed(beside.pictures)
    normal, normal_ends = packed([field.picture for field in beside.normals])
    arrays = {
        "field": beside.fields.astype(np.int64), "region": beside.regions,
        "vectors": beside.vectors.astype(np.float16), "pictures": pictures, "ends": ends,
        "nearest": beside.nearest.astype(np.int64), "distances": beside.distances,
        "farther": beside.farther, "normal_pictures": normal, "normal_ends": normal_ends,
    }  # fmt: skip
    facts = {
        "field_um": beside.field_um,
        "spoken": list(beside.spoken),
        "normals": [{"slide": n.slide, "place": list(n.place)} for n in beside.normals],
    }
    ready = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with atomic_file(path) as partial:
        partial.write_bytes(save(ready, {"json": json.dumps(facts)}))


def read_region_file(folder: Path) -> BesideNormal | None:
    """Read what :func:`write_region_file` wrote; None for a result that has none.

    Raises
    ------
    OutputError
        It is damaged, or claims what no result has.
    """
    import safetensors

    path = folder / NAME
    if not path.exists():
        return None
    try:
        if not path.is_file() or path.is_symlink() or path.stat().st_size > _LARGEST_BYTES:
            raise ValueError("it is no such file, or too large")
        with safetensors.safe_open(path, framework="np") as file:
            facts = json.loads((file.metadata() or {})["json"])
            return _checked({name: file.get_tensor(name) for name in file.keys()}, facts)  # noqa: SIM118
    except (
        OSError, LookupError, TypeError, ValueError, RecursionError, AttributeError,
        OverflowError, safetensors.SafetensorError,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split())
        raise OutputError(f"{path} is damaged ({reason}); score the slide again.") from error


def _checked(arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> BesideNormal:
    vectors = arrays["vectors"].astype(np.float32)
    pictures = unpacked(arrays["pictures"], arrays["ends"])
    normals = tuple(
        NormalField(str(n["slide"])[:_LONGEST_NAME], (float(x), float(y)), picture)
        for n, picture in zip(
            facts["normals"], unpacked(arrays["normal_pictures"], arrays["normal_ends"]),
            strict=True,
        )
        for x, y in [n["place"]]
    )  # fmt: skip
    count, nearest = len(pictures), arrays["nearest"]
    spoken = tuple(dict(entry) for entry in facts["spoken"])
    for entry in spoken:
        sentence(entry)  # what it lacks is found here, not where it is shown
    lengths = {len(arrays[name]) for name in ("field", "region", "nearest", "distances", "farther")}
    if lengths | {len(vectors), len(spoken)} != {count} or count > _MOST or vectors.ndim != 2:
        raise ValueError("its columns are not of one length")
    shapes = {arrays[name].shape for name in ("nearest", "distances", "farther")}
    if len(shapes) > 1 or nearest.ndim != 2 or vectors.shape[1] > _WIDEST:
        raise ValueError("its columns have other shapes than they should have")
    kinds = "".join(arrays[name].dtype.kind for name in ("field", "region", "nearest"))
    inside = nearest.size == 0 or (nearest.min() >= 0 and nearest.max() < len(normals))
    numbers = (vectors, arrays["distances"], arrays["farther"])
    if kinds != "iii" or not inside or not all(np.isfinite(a).all() for a in numbers):
        raise ValueError("its numbers are out of range")
    return BesideNormal(
        arrays["field"].astype(np.intp), arrays["region"].astype(np.int64), vectors,
        tuple(pictures), spoken, nearest.astype(np.intp), arrays["distances"], arrays["farther"],
        normals, int(facts["field_um"]),
    )  # fmt: skip


def shown(beside: BesideNormal, index: int) -> Shown:
    """Put together what is shown of one of its fields."""
    return Shown(
        int(beside.regions[index]), made_anew(beside.pictures[index]),
        _normals_of(beside, index), sentence(beside.spoken[index]), beside.field_um,
    )  # fmt: skip


def _normals_of(beside: BesideNormal, index: int) -> list[tuple[NormalField, float, float]]:
    columns = (beside.nearest[index], beside.distances[index], beside.farther[index])
    return [
        (beside.normals[k], distance, farther)
        for k, distance, farther in zip(*(column.tolist() for column in columns), strict=True)
    ]


_MEANS = {
    "contrast": "axes along which tissues differ",
    "directional": "direction of the features",
    "mahalanobis": "combination of the features",
    "knn": "likeness to single normal fields",
}


def sentence(spoken: Mapping[str, Any]) -> str:
    """Say in words which size of field, which distance and which method spoke; empty if unknown."""
    parts, methods = list(spoken.get("parts", ())), list(spoken.get("methods", ()))
    said = []
    if parts:
        first = parts[0]
        means = _MEANS.get(str(first["distance"]))
        text = (
            f"Fields of {int(first['um'])} µm by {str(first['distance'])[:50]}"
            f"{f' ({means})' if means else ''}: {float(first['units']):.1f} robust deviations "
            "above normal tissue"
        )
        if len(parts) > 1:
            total = sum(max(float(part["units"]), 0.0) for part in parts)
            share = max(float(first["units"]), 0.0) / total if total else 0.0
            second = parts[1]
            text = (
                f"{text}, {share:.0%} of the score; then {int(second['um'])} µm by "
                f"{str(second['distance'])[:50]}: {float(second['units']):.1f}"
            )
        said.append(f"{text}.")
    if len(methods) > 1:
        listed = ", ".join(
            f"{str(m['method'])[:50]} "
            + (
                f"p ≈ {float(m['p_value']):.2g}"
                if m.get("p_value") is not None
                else f"above {float(m['percentile']):.1f}% of normal fields"
            )
            for m in methods
        )
        said.append(f"By method, loudest first: {listed}.")
    return " ".join(said)


def why(beside: BesideNormal | None, region: int) -> dict[str, Any] | None:
    """Give what ``summary.json`` holds of a region (from 1); None where nothing is known."""
    if beside is None or region not in beside.regions:
        return None
    index = int(np.argmax(beside.regions == region))
    return {
        "spoken": dict(beside.spoken[index]),
        "sentence": sentence(beside.spoken[index]),
        "nearest_normal": [
            {
                "slide": normal.slide,
                "level0_px": [round(v) for v in normal.place],
                "distance": round(distance, 4),
                "farther_than_percent": round(farther, 1),
            }
            for normal, distance, farther in _normals_of(beside, index)
        ],
    }
