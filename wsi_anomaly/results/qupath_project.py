"""A QuPath project of scored slides: images, overlays, classes, pictures, and two scripts.

QuPath keeps what its user draws in files that only QuPath writes, so an overlay cannot lie there
beforehand: one of the scripts adds all of them with a single "Run for project". The layout is that
of QuPath's ``DefaultProject`` (0.4.0 to 0.7, unchanged): ``project.qpproj``,
``classifiers/classes.json``, ``scripts/*.groovy``, and ``data/<number>/`` for each image.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from wsi_anomaly.core.errors import UsageError, WsiAnomalyError
from wsi_anomaly.core.files import (
    atomic_file,
    make_folder,
    output_errors,
    remove_left_behind,
    write_json,
    write_text,
)
from wsi_anomaly.results.colors import TILE_CLASSES, TISSUE
from wsi_anomaly.results.slide_files import SlideFiles
from wsi_anomaly.results.summary import read_summary, result_names

PROJECT = "project.qpproj"
IDENTITY = "wsi-anomaly.json"
"""File beside an image's data that says which result it shows; QuPath leaves it alone."""
REVIEW_CLASSES: Mapping[str, tuple[int, int, int]] = {
    "Abnormal": (213, 94, 0),
    "Normal variant": (0, 158, 115),
    "Artefact": (110, 110, 110),
    "Unsure": (204, 121, 167),
}
"""What a reader may call a region, and its colour in QuPath."""

_SCRIPTS = ("1_add_overlays.groovy", "2_export_reviews.groovy")
_OVERLAYS = ("overlay.geojson", "overlay.geojson.gz")
_NOT_OPENED = (".dzi",)  # by no reader of QuPath
_VERSION = "0.4.0"  # of QuPath: what it writes has not changed since


@dataclass(frozen=True)
class QuPathProject:
    """What was made.

    Attributes
    ----------
    path
        The file that QuPath opens; it is there only if there are images.
    images
        Names of its images that have results.
    problems
        A sentence for each slide that was left out.
    """

    path: Path
    images: list[str]
    problems: list[str]


def write_project(
    results: Path, folder: Path, slides: Path | None = None, order: Sequence[str] | None = None
) -> QuPathProject:
    """Make a QuPath project of a results folder, or bring one up to date.

    In a project that is there already, images keep their numbers, and with them what was drawn on
    them in QuPath.

    Parameters
    ----------
    results
        Written by ``wsi-anomaly score``.
    folder
        Of the project.
    slides
        Where the slides lie now, if they are not where they were scored.
    order
        Names of the results, most abnormal first; by name when left out.

    Raises
    ------
    UsageError
        The folder holds no results, or something that is no QuPath project.
    OutputError
        The project cannot be written.
    """
    names = list(order) if order is not None else result_names(results)
    if not names:
        raise UsageError(
            f"{results} holds no results; give the folder that 'wsi-anomaly score' has written."
        )
    path = folder / PROJECT
    project = _opened(path)
    finder = SlideFiles(slides)
    made, problems = [], []
    for rank, name in enumerate(names, start=1):
        try:
            summary = read_summary(results / name)
            if summary is None:
                raise UsageError(f"{results / name} holds no results that can be read.")
            slide = Path(str(summary["slide"]["path"]))
            if slide.suffix.lower() in _NOT_OPENED:
                raise UsageError(f"{slide} is left out: QuPath opens no DeepZoom images.")
            slide = finder.find(summary["slide"])
        except WsiAnomalyError as error:
            problems.append(str(error))
            continue
        entry = _entry(project, slide, name)
        entry["metadata"] = {**entry.get("metadata", {}), **_facts(summary, rank)}
        data = folder / "data" / str(entry["entryID"])
        _write_data(data, results / name, entry)
        write_json(data / IDENTITY, _identity(summary, name))
        made.append(name)
    if not made:
        return QuPathProject(path, made, problems)
    project["modifyTimestamp"] = round(time.time() * 1000)
    _write_classes(folder / "classifiers" / "classes.json")
    for script in _SCRIPTS:
        text = files("wsi_anomaly.results").joinpath("qupath_scripts", script).read_text("utf-8")
        make_folder(folder / "scripts")
        write_text(folder / "scripts" / script, text)
    write_json(path, project)
    for place in (folder, folder / "classifiers", folder / "scripts"):
        remove_left_behind(place)
    return QuPathProject(path, made, problems)


def _opened(path: Path) -> dict[str, Any]:
    """Read the project that is there, or begin one."""
    now = round(time.time() * 1000)
    if not path.exists():
        return {
            "version": _VERSION, "createTimestamp": now, "modifyTimestamp": now,
            "uri": path.absolute().as_uri(), "lastID": 0, "images": [],
        }  # fmt: skip
    try:
        project = json.loads(path.read_text(encoding="utf-8"))
        numbers = [int(image["entryID"]) for image in project["images"]]
        _ = [image["serverBuilder"].get("uri") for image in project["images"]]
        project["lastID"] = max([int(project.get("lastID", 0)), *numbers])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is no QuPath project that can be read; choose another folder with -o."
        ) from error
    return dict(project)


def _entry(project: dict[str, Any], slide: Path, name: str) -> dict[str, Any]:
    """Image of the project that shows a slide: the one that is there, or a new one."""
    uri = slide.absolute().as_uri()
    for entry in project["images"]:
        if _path_of(entry["serverBuilder"].get("uri", "")) == _path_of(uri):
            return cast("dict[str, Any]", entry)
    project["lastID"] += 1
    # Without the name of a reader QuPath chooses one, as when the slide is dragged into it.
    entry = {
        "serverBuilder": {"builderType": "uri", "uri": uri, "args": []},
        "entryID": project["lastID"],
        "randomizedName": str(uuid.uuid4()),
        "imageName": name,
        "metadata": {},
    }
    project["images"].append(entry)
    return entry


def _path_of(uri: str) -> str:
    """Path in a URI; Java begins it with one slash where Python writes three."""
    return unquote(urlsplit(str(uri)).path)


def _facts(summary: Mapping[str, Any], rank: int) -> dict[str, str]:
    """Columns by which QuPath's list of images can be sorted; text, as QuPath keeps it."""
    flagged = summary.get("flagged", {})
    score = summary.get("slide_score")
    found = {
        "Rank": f"{rank:04d}",
        "Slide score": "" if score is None else f"{score:.4g}",
        "Anomalous regions": f"{flagged.get('regions', 0)}" if flagged.get("possible") else "",
        "Verdict": str(summary.get("verdict") or ""),
        "Result": str(summary["result_hash"])[:16],
    }
    return {name: text for name, text in found.items() if text}


def _identity(summary: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Say what the outlines that will be drawn on an image belong to, and count from."""
    slide = summary["slide"]
    cropped = summary["qupath_origin"] == "bounds"
    return {
        "slide": name,
        "fingerprint": slide["fingerprint"],
        "corner_level0": slide["bounds"][:2] if cropped else [0, 0],
        "result_hash": summary["result_hash"],
        "model_hash": summary["model"]["hash"],
    }


def _write_data(data: Path, result: Path, entry: Mapping[str, Any]) -> None:
    make_folder(data)
    remove_left_behind(data)
    write_json(data / "server.json", entry["serverBuilder"])
    for overlay in _OVERLAYS:
        source = result / overlay
        if source.is_file():
            _copy(source, data / overlay)
        else:
            with output_errors(data):
                (data / overlay).unlink(missing_ok=True)  # of a former result
    if (result / "thumbnail.jpg").is_file():
        _copy(result / "thumbnail.jpg", data / "thumbnail.jpg")


def _copy(source: Path, target: Path) -> None:
    with atomic_file(target) as partial:
        shutil.copyfile(source, partial)


def _write_classes(path: Path) -> None:
    """Add our classes to the project's own."""
    known: list[dict[str, Any]] = []
    if path.exists():
        try:
            known = list(json.loads(path.read_text(encoding="utf-8"))["pathClasses"])
        except (OSError, ValueError, LookupError, TypeError):
            known = []  # QuPath takes such a file for none as well
    names = {str(one.get("name")) for one in known}
    ours = {
        **REVIEW_CLASSES,
        **{kind.name: kind.color for kind in (*TILE_CLASSES, TISSUE)},
    }
    known += [
        {"name": name, "color": _packed(color)} for name, color in ours.items() if name not in names
    ]
    make_folder(path.parent)
    write_json(path, {"pathClasses": known})


def _packed(color: tuple[int, int, int]) -> int:
    """Opaque colour as Java's signed 32-bit integer."""
    red, green, blue = color
    return (0xFF << 24 | red << 16 | green << 8 | blue) - (1 << 32)
