"""What a download of Camelyon16 holds: slides, annotations, labels; and what it lacks."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from wsi_anomaly.annotations import Outline, read_asap, write_geojson
from wsi_anomaly.core.errors import AnnotationError, UsageError
from wsi_anomaly.core.files import make_folder
from wsi_anomaly.core.tables import read_table
from wsi_anomaly.core.wording import some
from wsi_anomaly.reproduce.sources.files import files_below

EXCLUDED = (
    "normal_027", "normal_045", "normal_108", "normal_144", "normal_150", "normal_158", "test_114",
)  # fmt: skip
"""Slides that the authors left out: black, blurred, with hardly any tissue, or a duplicate."""

STAIN_TARGET = "normal_056"
LABEL = "Tumor"

_NAME = re.compile(r"(normal|tumor|test)_\d+")
_WHERE = "download CAMELYON16 from the challenge's page or its open-data bucket"


@dataclass(frozen=True)
class Side:
    """Normal or anomaly, train or test: one of the authors' four lists."""

    kind: str
    part: str

    @property
    def judged(self) -> bool:
        """Whether its tiles are judged."""
        return self.part == "test"

    def __str__(self) -> str:
        return f"{self.kind} {self.part}"


SIDES = tuple(Side(kind, part) for kind in ("normal", "anomaly") for part in ("train", "test"))


@dataclass
class Challenge:
    """The files of a download, by side.

    Attributes
    ----------
    slides
        Slide files of each side.
    every
        All slides by name, those of no side included.
    annotations
        Folder of outlines (GeoJSON), one file a slide.
    errors
        Annotations that could not be read; their slides are left out.
    """

    slides: dict[Side, list[Path]]
    every: dict[str, Path]
    annotations: Path
    errors: list[str] = field(default_factory=list)

    @classmethod
    def find(cls, data: Path, output: Path) -> Self:
        """Look for everything below a folder.

        Parameters
        ----------
        data
            The download, in the layout of any of its releases: files are known by their names.
        output
            Gets ``annotations/``.

        Raises
        ------
        UsageError
            Pieces are missing; one sentence lists them all.
        """
        every = {
            path.stem: path
            for path in files_below(data, {".tif"})
            if _NAME.fullmatch(path.stem) and path.stem not in EXCLUDED
        }
        xml = {p.stem: p for p in files_below(data, {".xml"}) if _NAME.fullmatch(p.stem)}
        others = files_below(data, {".zip", ".csv"})
        archives = [path for path in others if path.match("*annotations*.zip")]
        reference = [path for path in others if path.match("reference*.csv")]
        by_kind = {
            kind: {n for n in every if n.startswith(f"{kind}_")}
            for kind in ("normal", "tumor", "test")
        }
        missing = [
            f"slides {kind}_*.tif" for kind in ("normal", "tumor", "test") if not by_kind[kind]
        ]
        labels = _labels(reference[0]) if reference else {}
        if not reference:
            missing.append("reference.csv (which test slides have tumour)")
        unlabelled = sorted(by_kind["test"] - set(labels)) if reference else []
        if unlabelled:
            missing.append(f"labels in reference.csv for {some(unlabelled)}")
        folder = make_folder(output / "annotations")
        _unpack(archives, folder / "xml", xml)
        tumour_test = {n for n in by_kind["test"] if labels.get(n) == "tumor"}
        unannotated = sorted((by_kind["tumor"] | tumour_test) - set(xml))
        if unannotated:
            missing.append(f"lesion annotations (.xml) of {some(unannotated)}")
        for part, found in (("normal", "normal"), ("tumour", "tumor")):
            if reference and by_kind["test"] and found not in labels.values():
                missing.append(f"{part} test slides")
        if missing:
            raise UsageError(f"{data} lacks {'; '.join(missing)}; {_WHERE}.")
        errors = []
        for name in sorted(by_kind["tumor"] | tumour_test):
            try:
                lesions = [o for o in read_asap(xml[name]) if not o.is_normal]
                outlines = [Outline(LABEL, lesion.polygon) for lesion in lesions]
                write_geojson(folder / f"{name}.geojson", outlines, name, corner=(0, 0))
            except AnnotationError as error:
                errors.append(str(error))
                (folder / f"{name}.geojson").unlink(missing_ok=True)
        drawn = {name for name in every if (folder / f"{name}.geojson").is_file()}
        members = {
            Side("normal", "train"): by_kind["normal"],
            Side("normal", "test"): {n for n in by_kind["test"] if labels[n] == "normal"},
            Side("anomaly", "train"): by_kind["tumor"] & drawn,
            Side("anomaly", "test"): tumour_test & drawn,
        }
        slides = {side: [every[name] for name in sorted(names)] for side, names in members.items()}
        return cls(slides, every, folder, errors)


def _labels(path: Path) -> dict[str, str]:
    """Read ``normal`` or ``tumor`` by test slide: the first two columns of reference.csv."""
    rows = read_table(path, ("slide", "label"), is_data=lambda _first: True)
    pairs = ((Path(row["slide"]).stem, row["label"].lower()) for row in rows)
    return {slide: label for slide, label in pairs if label in ("normal", "tumor")}


def _unpack(archives: list[Path], folder: Path, xml: dict[str, Path]) -> None:
    """Take annotations out of zip files, as the challenge gives them."""
    for archive in archives:
        try:
            with zipfile.ZipFile(archive) as opened:
                for name in opened.namelist():
                    path = Path(name)
                    if (
                        path.suffix == ".xml"
                        and _NAME.fullmatch(path.stem)
                        and path.stem not in xml
                    ):
                        make_folder(folder)
                        target = folder / path.name
                        target.write_bytes(opened.read(name))
                        xml[path.stem] = target
        except (OSError, zipfile.BadZipFile) as error:
            raise UsageError(f"{archive} is damaged; {_WHERE}.") from error
