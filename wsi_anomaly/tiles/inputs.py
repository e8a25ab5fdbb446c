"""What a user gives beside a slide: a tissue mask, and annotations to cut tiles from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import shapely

from wsi_anomaly.annotations import Extent, Outline, read_mask, read_outlines
from wsi_anomaly.annotations.files import MASK_SUFFIXES, SUFFIXES
from wsi_anomaly.annotations.outlines import NORMAL, TISSUE, Note
from wsi_anomaly.core.errors import AnnotationError, UsageError
from wsi_anomaly.core.files import fingerprint
from wsi_anomaly.core.remote import from_anywhere
from wsi_anomaly.options import Origin
from wsi_anomaly.slides import Slide, TissueMap
from wsi_anomaly.slides.overview import Overview

_FRAMELESS = (".xml", *MASK_SUFFIXES)  # QuPath's origin makes no difference to these


def file_for(place: Path, slide: Path) -> Path:
    """Find a slide's own file as :func:`find_file` does.

    Raises
    ------
    AnnotationError
        There is none.
    """
    found = find_file(place, slide)
    if found is None:
        raise AnnotationError(
            f"{place} has no file for {slide} (such as {slide.stem}.geojson); add it, or leave the "
            "slide out."
        )
    return found


def find_file(place: Path, slide: Path) -> Path | None:
    """Find a slide's own file: `place` itself, or in a folder the one named as the slide.

    In the folder it may lie below folders named as those of the slide: of ``study/a/s1.tif`` it is
    ``a/s1.geojson``, or else ``s1.geojson``. The slide itself is never its mask.
    """
    if not place.is_dir():
        return place
    for folder in _folders(place, slide):
        if folder.is_dir():
            files = (folder / f"{name}{s}" for name in (slide.stem, slide.name) for s in SUFFIXES)
            found = next((f for f in files if f.is_file() and not _is_one_file(f, slide)), None)
            if found is not None:
                return found
    return None


def _folders(place: Path, slide: Path) -> Iterator[Path]:
    """Where a slide's file may lie in a folder: below all of the slide's folders first."""
    parents = [part for part in from_anywhere(slide).parts[1:-1] if part != ".."]
    return (place.joinpath(*parents[first:]) for first in range(len(parents) + 1))


def new_file(place: Path, slide: Path, others: Iterable[Path], suffix: str = ".geojson") -> Path:
    """Name a new file of a slide, so that :func:`find_file` takes it for none of the others.

    Raises
    ------
    AnnotationError
        There is no such name.
    """

    def names(one: Path) -> list[Path]:
        folders = reversed(list(_folders(place, one)))
        return [folder / f"{name}{suffix}" for folder in folders for name in (one.stem, one.name)]

    taken = {name for other in others for name in names(other)}
    free = next((name for name in names(slide) if name not in taken), None)
    if free is None:
        raise AnnotationError(
            f"A file of {slide} alone has no name in {place}: other slides are called the same; "
            "rename the slide."
        )
    return free


def _is_one_file(one: Path, other: Path) -> bool:
    return one.resolve() == from_anywhere(other).resolve()


def check_files(option: str, place: Path, slides: Sequence[Path]) -> None:
    """See that a file, or a folder of files, can be that of these slides.

    Raises
    ------
    UsageError
        It does not exist, is a slide itself, or one file would be taken for several slides.
    """
    if not place.exists():
        raise UsageError(f"{place} does not exist; give a file or a folder as {option}.")
    if any(_is_one_file(place, slide) for slide in slides):
        raise UsageError(f"{place} is a slide itself; give {option} another file, or a folder.")
    if place.is_file() and len(slides) > 1:
        raise UsageError(
            f"{place} cannot be right for {len(slides)} slides; give {option} a folder of files "
            "named as the slides."
        )
    alike = Counter(slide.stem for slide in slides)
    slide_of: dict[Path, Path] = {}
    for slide in slides:
        file = find_file(place, slide) if alike[slide.stem] > 1 else None
        if file is not None and slide_of.setdefault(file, slide) != slide:
            raise UsageError(
                f"{file} could be of {slide_of[file]} or {slide}; move it into a folder named as "
                f"that of its slide, such as {place / slide.parent.name}."
            )


def check_marked(place: Path, slides: Sequence[Path], note: Note) -> None:
    """See that outlines of normal tissue are of these slides; `note` is told how many have some.

    Raises
    ------
    UsageError
        As :func:`check_files`; or the folder has a file of none of them.
    """
    check_files("--normal", place, slides)
    marked = sum(find_file(place, slide) is not None for slide in slides)
    if slides and not marked:
        raise UsageError(
            f"{place} has a file of no slide (such as {slides[0].stem}.geojson); name the files as "
            "the slides, or leave --normal out."
        )
    if marked < len(slides):
        note(
            f"{place} marks normal tissue of {marked} of {len(slides)} slides; the others are "
            "scored without."
        )


def extent_of(slide: Slide, origin: Origin = "bounds") -> Extent:
    """Tell what places outlines on a slide."""
    b = slide.bounds
    size = (slide.width, slide.height)
    return Extent(slide.path, size, (b.x, b.y, b.width, b.height), origin)


def identity(path: Path, origin: Origin) -> str:
    """Tell whether a file would be read as before: its fingerprint, and the frame it is read in.

    Raises
    ------
    AnnotationError
        It cannot be read.
    """
    try:
        mark = fingerprint(path)
    except OSError as error:
        raise AnnotationError(
            f"{path} cannot be read ({error.strerror or error}); check its path."
        ) from error
    return mark if path.name.lower().endswith(_FRAMELESS) else f"{mark} {origin}"


def tissue_from_file(
    slide: Slide,
    path: Path,
    overview: Overview,
    origin: Origin = "bounds",
    *,
    note: Note = lambda _text: None,
) -> TissueMap:
    """Tissue as somebody has marked it: outlines, or an image over the scanned area.

    Where outlines have the class Tissue, as ours have, those of other classes are none.

    Raises
    ------
    AnnotationError
        The file cannot be read, or was made for something else.
    """
    if path.name.lower().endswith(MASK_SUFFIXES):
        return TissueMap.from_image(slide, read_mask(path), overview)
    outlines = read_outlines(path, extent_of(slide, origin), note=note)
    tissue = [outline for outline in outlines if outline.label == TISSUE] or outlines
    return TissueMap.from_polygons(slide, [outline.polygon for outline in tissue], overview)


def outlines_from_file(
    slide: Slide,
    path: Path,
    labels: Sequence[str],
    origin: Origin = "bounds",
    *,
    note: Note = lambda _text: None,
) -> list[Outline]:
    """Annotations of a slide to cut tiles from, each with a label.

    Parameters
    ----------
    slide
        An open slide.
    path
        QuPath GeoJSON, ASAP or Camelyon XML, or a mask image over the scanned area.
    labels
        The classes to take; none: all. A single name also labels annotations that have no class
        (a mask, or outlines none of which was given one).
    origin
        Where QuPath's (0, 0) lies, see :class:`~wsi_anomaly.annotations.Extent`.
    note
        Told what was left out.

    Raises
    ------
    AnnotationError
        The file cannot be read, was made for something else, or has none of these classes.
    """
    only = labels[0] if len(labels) == 1 else ""
    outlines = read_outlines(path, extent_of(slide, origin), label=only, note=note)
    if not outlines:
        raise AnnotationError(f"{path} holds no annotation; draw one, or leave {slide.path} out.")
    if not any(outline.label for outline in outlines):
        if not only:
            raise AnnotationError(
                f"The annotations in {path} have no class; give one with --label NAME, or set it "
                "in QuPath."
            )
        return [Outline(only, outline.polygon) for outline in outlines]
    chosen = [o for o in outlines if o.label and (not labels or o.label in labels)]
    if not chosen:
        present = ", ".join(sorted({outline.label for outline in outlines if outline.label}))
        raise AnnotationError(
            f"{path} has no annotation of class {' or '.join(labels)}, only {present}; give one of "
            "those as --label."
        )
    nameless = sum(not outline.label for outline in outlines)
    if nameless:
        note(f"{path}: {nameless} of {len(outlines)} annotations have no class and are left out.")
    return chosen


def marked_areas(
    slide: Slide, path: Path, origin: Origin, note: Note
) -> list[tuple[str, shapely.Geometry]]:
    """Where somebody has marked a slide as normal: the kind of tissue and its area, level-0 pixels.

    Raises
    ------
    AnnotationError
        The file cannot be read, was made for another slide, or has no outline.
    """
    outlines = read_outlines(path, extent_of(slide, origin), label=NORMAL, note=note)
    if not outlines:
        raise AnnotationError(
            f"{path} marks nothing; outline a little of every kind of normal tissue on the slide, "
            "or leave --normal out."
        )
    return [(outline.label, outline.polygon) for outline in outlines]
