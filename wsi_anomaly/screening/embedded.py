"""Which slides are scored by embeddings: those that were named, or all that were embedded."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_anomaly.core.errors import EmbeddingsError
from wsi_anomaly.core.file_names import as_text
from wsi_anomaly.core.slide_names import some
from wsi_anomaly.embeddings import EmbeddingsFile, Found, find_embeddings
from wsi_anomaly.slides import Listing, list_slides
from wsi_anomaly.tiles.named import Note


@dataclass(frozen=True)
class Embedded:
    """A slide by its embeddings.

    Attributes
    ----------
    slide
        The slide, or the file of its embeddings where it is not at hand.
    file
        Its embeddings; None where there are none.
    pixels
        Whether the slide is at hand.
    problem
        Why it cannot be scored; "" if it can.
    """

    slide: Path
    file: EmbeddingsFile | None
    pixels: bool
    problem: str = ""


def embedded_slides(
    slides: Sequence[str | Path], folder: str | Path, note: Note
) -> tuple[list[Embedded], Listing]:
    """Match slides with embeddings, by name.

    Parameters
    ----------
    slides
        Slides, or folders of them. Where a folder is among them, or nothing is, embeddings of
        other slides are scored too, without pixels.
    folder
        Of embeddings.
    note
        Told what has no slide.

    Raises
    ------
    UsageError
        A path does not exist, or there are no embeddings.
    """
    found = find_embeddings(folder)
    listing = list_slides(slides) if slides else Listing((), ())
    called: dict[str, list[Path]] = {}
    for slide in listing.slides:
        called.setdefault(as_text(slide.stem), []).append(slide)
    jobs = [_of_slide(slide, found, called) for slide in listing.slides]
    if not slides or any(Path(place).is_dir() for place in slides):
        rest = list(_without_slides(found, called))
        if slides and rest:
            note(
                f"{len(rest)} of the embeddings have no slide in the folders that were given, and "
                f"are scored without pictures: {some([e.slide.name for e in rest])}."
            )
        jobs += rest
    return jobs, listing


def _of_slide(slide: Path, found: Found, called: Mapping[str, Sequence[Path]]) -> Embedded:
    same = called[as_text(slide.stem)]
    try:
        if len(same) > 1:
            raise EmbeddingsError(
                f"Two slides are called {as_text(slide.stem)}, {same[0]} and {same[1]}, and "
                "embeddings are found by name; score them apart, each with its own --embeddings."
            )
        return Embedded(slide, found.of(slide), pixels=True)
    except EmbeddingsError as error:
        return Embedded(slide, None, pixels=True, problem=str(error))


def _without_slides(found: Found, named: Container[str]) -> Iterator[Embedded]:
    for name, file in found.files.items():
        if name not in named:
            yield Embedded(file.path, file, pixels=False)
    for name, files in found.doubled.items():
        if name not in named:
            yield Embedded(files[0].path, files[0], pixels=False, problem=found.of_two(name))
