"""Which slides are scored by embeddings: those that were named, or all that were embedded."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_anomaly.core.errors import EmbeddingsError
from wsi_anomaly.core.file_names import as_text
from wsi_anomaly.core.slide_names import some
from wsi_anomaly.embeddings import EmbeddingsFile, Found, find_embeddings
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
    slides: Sequence[Path], folder: str | Path, note: Note, *, whole: bool
) -> list[Embedded]:
    """Match slides with embeddings, by name.

    Parameters
    ----------
    slides
        Those at hand.
    folder
        Of embeddings.
    note
        Told what has no slide.
    whole
        Also take the embeddings of other slides, without pixels.

    Raises
    ------
    UsageError
        There are no embeddings.
    """
    found = find_embeddings(folder)
    called: dict[str, list[Path]] = {}
    for slide in slides:
        called.setdefault(as_text(slide.stem), []).append(slide)
    rest = list(_without_slides(found, called)) if whole else []
    if slides and rest:
        note(
            f"{len(rest)} of the embeddings have no slide in the folders that were given, and are "
            f"scored without pictures: {some([one.slide.name for one in rest])}."
        )
    return [*(_of_slide(slide, found, called) for slide in slides), *rest]


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
