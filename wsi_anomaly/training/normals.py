"""Score normal slides for calibration, as new slides will be scored.

A slide is read again from its file, with every field down to the share of tissue that scoring
takes, and whole: how many false regions a slide shows is known from whole slides only.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from wsi_anomaly.calibration import CaseScores
from wsi_anomaly.core.errors import AnnotationError, EmbeddingsError, NoTissueError, SlideError
from wsi_anomaly.core.remote import check_may_connect
from wsi_anomaly.detectors import Model
from wsi_anomaly.embeddings import EmbeddingsFile
from wsi_anomaly.jobs import Progress
from wsi_anomaly.options import Origin
from wsi_anomaly.scoring.assess import assess_fields
from wsi_anomaly.scoring.domain import measures
from wsi_anomaly.scoring.embedded import check_step, judge, measures_of, opened_for
from wsi_anomaly.scoring.model import grid_of
from wsi_anomaly.scoring.slide import check_pixels, tissue_of
from wsi_anomaly.slides import Slide, open_slide, slide_fingerprint
from wsi_anomaly.tiles import Preprocessing, TileStore, plan_fields
from wsi_anomaly.tiles.inputs import identity

MIN_TISSUE = 0.1
"""Least share of tissue of a field when slides are scored."""


@dataclass(frozen=True)
class NormalSlide:
    """A normal slide and what identifies it.

    `named_by` is the file that names it; None: the user does. `origin` is QuPath's on it, for
    `tissue_mask`. `embeddings` are what is scored in
    place of its pixels; without `pixels` it is not at hand, and `path` is the file of those.
    `problem` says why it cannot be scored, where that is known already.
    """

    path: Path
    case: str
    mpp: float | None = None
    backend: str = "auto"
    named_by: Path | None = None
    scene: int | None = None
    tissue_mask: Path | None = None
    origin: Origin = "bounds"
    embeddings: EmbeddingsFile | None = None
    pixels: bool = True
    problem: str = ""

    @classmethod
    def of_tiles(cls, tiles: TileStore) -> Self:
        """Give the slide of a tile file, with the tissue mask by which it was cut."""
        mark = tiles.sources["tissue_mask"]
        origin: Origin = "level0" if mark.endswith(" level0") else "bounds"
        problem = ""
        if mark and not _is_as_it_was(tiles.tissue_mask, mark, origin):
            where = f", {tiles.tissue_mask}," if tiles.tissue_mask else ""
            problem = (
                f"the tissue mask{where} by which {tiles.slide_path} was tiled is missing or has "
                "changed; put it back, or run 'wsi-anomaly tile' with the mask as it is now."
            )
        return cls(
            tiles.slide_path,
            tiles.case,
            tiles.mpp.x if tiles.mpp.source == "--mpp" else None,
            tiles.backend,
            tiles.path,
            tiles.scene,
            tiles.tissue_mask if mark else None,
            origin,
            problem=problem,
        )

    @property
    def marks(self) -> list[str]:
        """Fingerprints by which a model knows it again: of its embeddings, and of its pixels.

        Raises
        ------
        SlideError
            It cannot be read.
        """
        own = [readable_fingerprint(self.path)] if self.pixels else []
        return own if self.embeddings is None else [self.embeddings.fingerprint, *own]

    def opened(self) -> Slide:
        """Open it; as :func:`open_slide`."""
        return open_slide(self.path, mpp=self.mpp, backend=self.backend, scene=self.scene)

    def check_may_connect(self) -> None:
        """See that an address is one that the user has given; as :func:`check_may_connect`."""
        if self.named_by is not None:
            check_may_connect(self.path, self.named_by)


def _is_as_it_was(mask: Path | None, mark: str, origin: Origin) -> bool:
    try:
        return mask is not None and mask.is_file() and identity(mask, origin) == mark
    except (AnnotationError, OSError):
        return False


def readable_fingerprint(path: Path) -> str:
    """Identity of a slide by its content.

    Raises
    ------
    SlideError
        It cannot be read.
    """
    try:
        return slide_fingerprint(path)
    except OSError as error:
        raise SlideError(
            f"{path} cannot be read ({error.strerror or error}); check its disk and run the same "
            "command again."
        ) from error


def score_normal_slide(
    slide: NormalSlide, model: Model, *, progress: Progress | None = None
) -> tuple[str, dict[str, CaseScores]]:
    """Score a normal slide with every method of a model.

    Parameters
    ----------
    slide
        Not used in training or validation.
    model
        Its own calibration is not looked at.
    progress
        Called with fields done and fields in all.

    Returns
    -------
    The slide's fingerprint, and its scores by method; empty when no field could be assessed.

    Raises
    ------
    AnnotationError, EmbeddingsError, SlideError, StainError
        The slide cannot be scored, or its tissue mask read.
    """
    slide.check_may_connect()
    if slide.problem:
        raise EmbeddingsError(slide.problem)
    if slide.embeddings is not None:
        return slide.marks[0], _by_embeddings(slide, slide.embeddings, model, progress)
    with slide.opened() as opened:
        mark = readable_fingerprint(slide.path)
        check_pixels(opened, model)
        tissue = tissue_of(opened, slide.tissue_mask, slide.origin)
        fields = plan_fields(
            opened, tissue, **grid_of(model, None), min_tissue=MIN_TISSUE, max_tiles=None
        )
        if not len(fields):
            raise NoTissueError(f"No tissue was found on {slide.path}; leave it out.")
        preprocess = Preprocessing.from_dict(model.preprocessing).for_slide(opened, tissue)
        found = assess_fields(
            opened,
            tissue,
            fields,
            model,
            preprocess,
            min_tissue=MIN_TISSUE,
            progress=progress,
        )
    out = {}
    for name, values in found.scores.items():
        at = np.flatnonzero(np.isfinite(values))
        if len(at):
            out[name] = CaseScores(
                slide.case,
                slide.path.stem,
                fields.row[at],
                fields.col[at],
                values[at],
                measures(preprocess, found.sharpness, values, found.place),
            )
    return mark, out


def _by_embeddings(
    slide: NormalSlide, file: EmbeddingsFile, model: Model, progress: Progress | None
) -> dict[str, CaseScores]:
    with ExitStack() as stack:
        pixels = stack.enter_context(slide.opened()) if slide.pixels else None
        found, mpp = stack.enter_context(opened_for(file, pixels, model, slide.mpp))
        check_step(found, model, mpp)
        judged = judge(found, model, mpp, progress)
    kept = judged.gridded.highest(judged.scores[model.primary])
    fields = judged.gridded.fields.take(kept)
    return {
        name: CaseScores(
            slide.case, slide.path.stem, fields.row, fields.col, values[kept],
            measures_of(values[kept], judged.place),
        )
        for name, values in judged.scores.items()
    }  # fmt: skip
