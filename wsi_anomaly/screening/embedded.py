"""Which slides are scored by embeddings: those that were named, or all that were embedded."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_anomaly.core.errors import EmbeddingsError
from wsi_anomaly.core.file_names import as_text
from wsi_anomaly.core.wording import some
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
    rest = list(_without_slides(found, {as_text(s.stem) for s in slides})) if whole else []
    if slides and rest:
        note(
            f"{len(rest)} of the embeddings have no slide in the folders that were given, and are "
            f"scored without pictures: {some([one.slide.name for one in rest])}."
        )
    return [*map(_of_slide, slides, found.of_each(slides)), *rest]


def _of_slide(slide: Path, file: EmbeddingsFile | EmbeddingsError) -> Embedded:
    if isinstance(file, EmbeddingsError):
        return Embedded(slide, None, pixels=True, problem=str(file))
    return Embedded(slide, file, pixels=True)


def _without_slides(found: Found, named: Container[str]) -> Iterator[Embedded]:
    for name, file in found.files.items():
        if name not in named:
            yield Embedded(file.path, file, pixels=False)
    for name, files in found.doubled.items():
        if name not in named:
            yield Embedded(files[0].path, files[0], pixels=False, problem=found.of_two(name))
