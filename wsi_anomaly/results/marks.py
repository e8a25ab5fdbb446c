"""Normal tissue that readers have marked on the slides of a results folder.

``results/marks/<slide>.geojson``: annotations as QuPath has them, one file a slide under the name
by which ``score --normal results/marks`` finds it. The class is the kind of tissue; who drew it and
when stand among the metadata. A file that somebody put there is taken as well.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import shapely

from wsi_anomaly.annotations import Extent, Outline
from wsi_anomaly.annotations.qupath import (
    CORNER,
    FACTS,
    annotation,
    outlines_of,
    read_document,
)
from wsi_anomaly.core.errors import AnnotationError, UsageError
from wsi_anomaly.core.files import atomic_file, make_folder, output_errors
from wsi_anomaly.core.locks import alone_with
from wsi_anomaly.results.overlaps import Area
from wsi_anomaly.results.trail import append_event
from wsi_anomaly.tiles.inputs import find_file, new_file

FOLDER = "marks"
"""Folder in the results; no slide's results have this name."""
KINDS = (
    "Mucosa", "Submucosa", "Muscle", "Fat", "Connective tissue", "Vessel", "Nerve",
    "Lymphoid tissue",
)  # fmt: skip
"""Kinds of tissue that are offered before anybody has named one."""

_SUFFIX = ".geojson"
_BY, _AT = "Marked by", "Marked at"


@dataclass(frozen=True, eq=False)
class Mark:
    """An outline of normal tissue.

    Attributes
    ----------
    kind
        Kind of tissue: the outline's class; empty where somebody else's file has none.
    outline
        Level-0 pixels of the file.
    reader, time
        Who drew it and when (UTC, ISO format); empty where it was drawn elsewhere.
    id
        Its id in QuPath.
    """

    kind: str
    outline: Area
    reader: str = ""
    time: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


def extent_of(summary: Mapping[str, Any]) -> Extent:
    """Tell what places outlines on the slide of a summary."""
    slide = summary["slide"]
    return Extent(
        Path(str(slide["path"])),
        tuple(slide["size_px"]),
        tuple(slide["bounds"]),
        summary["qupath_origin"],
    )


def marks_file(results: Path, slide: Path, others: Iterable[Path]) -> Path:
    """Give the file of a slide's marks: the one that ``score`` takes, or where it is to be.

    Parameters
    ----------
    results
        Folder of results.
    slide, others
        The slide, and all others of the folder.

    Raises
    ------
    AnnotationError
        The file that is there could be another slide's as well, or is of a kind that nothing can be
        added to.
    """
    place = results / FOLDER
    # Others that could be meant have its name; to look for the files of all takes long.
    names = {slide.stem, slide.name}
    others = [o for o in others if o != slide and {o.stem, o.name} & names]
    found = find_file(place, slide) if place.is_dir() else None
    if found is None:
        return new_file(place, slide, others, _SUFFIX)
    twin = next((other for other in others if find_file(place, other) == found), None)
    if twin is not None:
        raise AnnotationError(
            f"{found} could be of {slide} or {twin}; move it into a folder named as that of its "
            f"slide, such as {place / slide.parent.name}."
        )
    if not found.name.lower().endswith((_SUFFIX, ".json")):
        raise AnnotationError(
            f"{found} marks this slide, and nothing can be added to a file of its kind; export it "
            "from QuPath as GeoJSON, or move it elsewhere."
        )
    return found


def read_marks(file: Path, extent: Extent) -> list[Mark]:
    """Read the marks of a slide, as ``score --normal`` does; none where there is no file.

    Raises
    ------
    AnnotationError
        The file cannot be used, or was made for another slide.
    """
    if not file.exists():
        return []
    outlines = outlines_of(read_document(file), file, extent)
    extent.check(file, [outline for outline, _ in outlines])
    return [
        Mark(
            outline.label,
            outline.polygon,
            _metadata(feature, _BY),
            _metadata(feature, _AT),
            _id(feature),
        )
        for outline, feature in outlines
    ]


def add_mark(results: Path, file: Path, extent: Extent, slide: str, mark: Mark) -> None:
    """Add a mark to a slide's file; once this returns it is on the disk.

    What else the file holds stays as it is, also what another reader writes at the same time.

    Parameters
    ----------
    results, file
        Folder of results, and the file as :func:`marks_file` gives it.
    extent, slide
        The slide, and the name that its results show.
    mark
        What is marked.

    Raises
    ------
    AnnotationError
        The file that is there cannot be used.
    OutputError
        It cannot be written.
    """
    make_folder(file.parent)
    with output_errors(file), alone_with(file):
        document = _document(file, extent, slide)
        x, y = document[FACTS][CORNER]
        polygon = shapely.transform(mark.outline, lambda xy: xy - (x, y))
        metadata = {_BY: mark.reader, _AT: mark.time}
        feature = annotation(Outline(mark.kind, polygon), uuid.UUID(mark.id), metadata)
        document["features"].append(feature)
        _write(results, file, document, slide, mark, "added")


def remove_mark(
    results: Path, file: Path, extent: Extent, slide: str, identity: str, reader: str
) -> Mark:
    """Take a reader's own mark out of a slide's file; with the last object the file goes.

    Raises
    ------
    UsageError
        There is no such mark, or it is somebody else's.
    AnnotationError, OutputError
        The file cannot be used, or not be written.
    """
    with output_errors(file), alone_with(file):
        marks = [mark for mark in read_marks(file, extent) if mark.id == identity]
        if not marks:
            raise UsageError("This mark is gone already; open the page again.")
        if marks[0].reader != reader:
            raise UsageError(f"{marks[0].reader or 'Somebody'} drew this; only they delete it.")
        document = _document(file, extent, slide)
        document["features"] = [f for f in document["features"] if _id(f) != identity]
        _write(results, file, document, slide, marks[0], "deleted")
    return marks[0]


def kinds_used(results: Path) -> list[str]:
    """List the kinds of tissue that the marks of a results folder name, then usual ones."""
    used: set[str] = set()
    for file in sorted((results / FOLDER).rglob(f"*{_SUFFIX}")):
        try:
            used |= {outline.label for outline, _ in outlines_of(read_document(file), file)}
        except AnnotationError:
            continue  # it is said on the page of its slide
    named = {kind.casefold() for kind in used}
    return [
        *sorted(used - {""}, key=str.casefold),
        *(kind for kind in KINDS if kind.casefold() not in named),
    ]


def _document(file: Path, extent: Extent, slide: str) -> dict[str, Any]:
    """Give a slide's file as a collection that says where it counts from; an empty one if new."""
    document = read_document(file) if file.exists() else []
    read_marks(file, extent)  # nothing is added to what cannot be read
    if isinstance(document, dict) and document.get("type") == "Feature":
        document = [document]
    if isinstance(document, list):
        document = {"type": "FeatureCollection", "slide": slide, "features": document}
    facts = document.get(FACTS)
    facts = facts if isinstance(facts, dict) else {}
    return document | {FACTS: {CORNER: list(extent.qupath_corner)} | facts}


def _write(
    results: Path, file: Path, document: Mapping[str, Any], slide: str, mark: Mark, done: str
) -> None:
    content = b""
    if document["features"]:
        content = orjson.dumps(document)
        with atomic_file(file) as partial:
            partial.write_bytes(content)
    else:
        file.unlink()
    facts = {
        "reader": mark.reader, "slide": slide, "file": file.relative_to(results).as_posix(),
        "done": done, "mark": mark.id, "kind": mark.kind,
        "sha256": hashlib.sha256(content).hexdigest() if content else "",
    }  # fmt: skip
    append_event(results, "mark", facts)


def _id(feature: Any) -> str:
    found = feature.get("id") if isinstance(feature, dict) else None
    return found if isinstance(found, str) else ""


def _metadata(feature: Mapping[str, Any], name: str) -> str:
    properties = feature.get("properties")
    metadata = properties.get("metadata") if isinstance(properties, dict) else None
    found = metadata.get(name) if isinstance(metadata, dict) else None
    return found[:100] if isinstance(found, str) else ""
