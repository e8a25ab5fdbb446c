"""One slide from file to results folder: what the command line does for each slide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from wsi_anomaly.core.errors import AnnotationError, EmbeddingsError
from wsi_anomaly.core.output_names import MadeOf, name_outputs
from wsi_anomaly.core.remote import from_anywhere
from wsi_anomaly.embeddings import EmbeddingsFile
from wsi_anomaly.embeddings.writing import embeddings_out
from wsi_anomaly.jobs import Progress
from wsi_anomaly.options import ScoreOptions
from wsi_anomaly.reports.slide_folder import write_results
from wsi_anomaly.results.marks import FOLDER as MARKS
from wsi_anomaly.results.reviews import FOLDER as REVIEWS
from wsi_anomaly.results.summary import read_summary, result_hash
from wsi_anomaly.results.trail import append_event, scored_event
from wsi_anomaly.scoring import Controls, ScoreMap, ScoringModel, score_slide, scoring_settings
from wsi_anomaly.slides import Slide, open_slide, slide_fingerprint
from wsi_anomaly.tiles.named import NamedSlides


@dataclass(frozen=True)
class ScoreJob:
    """One slide to score, and the folder of its results.

    Attributes
    ----------
    slide, folder
        From where to where.
    mpp
        Its micrometres per pixel, over those of all slides.
    controls
        Concurrent controls that are its reference.
    shown_as
        Name under which its results show it, and nowhere under its own.
    tissue_mask
        Its own file of the tissue.
    embeddings
        What is scored in place of its pixels.
    pixels
        Whether the slide is at hand; if not, `slide` is the file of its embeddings.
    problem
        Why it cannot be scored, where that is known already.
    """

    slide: Path
    folder: Path
    mpp: float | None = None
    controls: Controls | None = None
    shown_as: str | None = None
    tissue_mask: Path | None = None
    embeddings: EmbeddingsFile | None = None
    pixels: bool = True
    problem: str = ""

    def options(self, common: ScoreOptions) -> ScoreOptions:
        """Options of this slide: those of all, and its own."""
        return replace(
            common,
            mpp=common.mpp if self.mpp is None else self.mpp,
            tissue_mask=self.tissue_mask or common.tissue_mask,
        )

    def embeddings_out(self, options: ScoreOptions) -> Path | None:
        """File for the embeddings of its fields; None: none is asked for."""
        folder = options.embeddings_out
        return None if folder is None else Path(folder) / f"{self.folder.name}.h5"

    def from_anywhere(self) -> Self:
        """Return the same with whole paths."""
        return replace(
            self,
            slide=from_anywhere(self.slide),
            folder=self.folder.absolute(),
            embeddings=self.embeddings and self.embeddings.from_anywhere(),
            tissue_mask=self.tissue_mask and self.tissue_mask.absolute(),
        )


def job_of(slide: Path, folder: Path, named: NamedSlides) -> ScoreJob:
    """Make the job of a slide of which tables may say more."""
    mpp, mask = named.sizes.get(slide), named.masks.get(slide)
    return ScoreJob(slide, folder, mpp, tissue_mask=mask)


def result_folders(slides: Sequence[Path], results: Path) -> dict[Path, Path]:
    """Folder of each slide, as :func:`name_outputs` says."""
    there = [path.name for path in results.iterdir() if path.is_dir()] if results.is_dir() else []
    names = name_outputs(
        slides, there, lambda name: _made_of(results / name), _identity,
        # Whatever stands where results are written goes: reviews and marks must not.
        digits=16, reserved=(REVIEWS, MARKS),
    )  # fmt: skip
    return {slide: results / name for slide, name in names.items()}


def changed_since(jobs: Sequence[ScoreJob]) -> list[Path]:
    """Slides of which a result is there, of another content."""
    made = ((job.slide, _made_of(job.folder)) for job in jobs if job.slide.exists())
    return [slide for slide, was in made if was and was.fingerprint != _identity(slide)]


def _made_of(folder: Path) -> MadeOf | None:
    """Give of which slide a result is; None where there is none."""
    facts = (read_summary(folder) or {}).get("slide")
    if not isinstance(facts, dict) or "fingerprint" not in facts:
        return None
    return MadeOf(str(facts["fingerprint"]), str(facts.get("path")))


def _identity(path: Path) -> str:
    try:
        if path.is_dir():  # a store of embeddings, without its slide
            return EmbeddingsFile(path, path).fingerprint
        return slide_fingerprint(path)
    except OSError:
        return "unreadable"  # scoring it will say what is wrong


def is_done(job: ScoreJob, model: ScoringModel, options: ScoreOptions) -> bool:
    """Whether a folder holds this very result, whole: slide, model, settings and program."""
    summary = read_summary(job.folder)
    if summary is None or not _is_whole(job.folder, summary):
        return False
    if (out := job.embeddings_out(options)) is not None and not out.is_file():
        return False
    try:
        settings = _settings(job, model, job.options(options))
    except (AnnotationError, OSError):
        return False  # scoring it will say what is wrong
    identity = result_hash(
        model.hash,
        _identity(job.slide),
        settings,
        heatmap=options.heatmap,
        origin=options.origin,
        gzip=options.gzip,
    )
    return bool(summary.get("result_hash") == identity)


def _settings(job: ScoreJob, model: ScoringModel, options: ScoreOptions) -> Mapping[str, Any]:
    if job.embeddings is None:
        return scoring_settings(job.slide, model, options, job.controls)
    from wsi_anomaly.scoring.embedded import embedded_settings

    return embedded_settings(job.embeddings, model, options)


def _is_whole(folder: Path, summary: Mapping[str, Any]) -> bool:
    """Whether every file that a summary names is there still."""
    files = summary.get("files")
    return isinstance(files, dict) and all((folder / str(name)).exists() for name in files.values())


def _scored(
    slide: Slide,
    model: ScoringModel,
    options: ScoreOptions,
    job: ScoreJob,
    progress: Progress | None,
) -> ScoreMap:
    """Score a slide by its pixels, and write its embeddings where they are asked for."""
    file = job.embeddings_out(options)
    if file is None:
        return score_slide(slide, model, options, controls=job.controls, progress=progress)
    from wsi_anomaly.scoring.embedded import encoder_for

    encoder = encoder_for(model)
    with embeddings_out(file, encoder.name, encoder.field_um, slide) as out:
        found = score_slide(
            slide, model, options, controls=job.controls, progress=progress, keep=out.add
        )
        out.finish(found.fields.take(np.flatnonzero(found.assessed)))
    return found


def score_to_folder(
    job: ScoreJob,
    model: ScoringModel,
    options: ScoreOptions | None = None,
    progress: Progress | None = None,
) -> ScoreMap:
    """Score a slide and write its results folder.

    Raises
    ------
    WsiAnomalyError
        The slide cannot be scored, or the results cannot be written; nothing is left behind.
    """
    options = job.options(options or ScoreOptions())
    if job.problem:
        raise EmbeddingsError(job.problem)
    with ExitStack() as opened:
        slide: Slide | None = None
        if job.pixels:
            slide = opened.enter_context(
                open_slide(job.slide, mpp=options.mpp, backend=options.backend, scene=options.scene)
            )
        if job.embeddings is not None:
            from wsi_anomaly.scoring.embedded import score_embedded

            found, slide = score_embedded(job.embeddings, slide, model, options, progress=progress)
        else:
            assert slide is not None
            found = _scored(slide, model, options, job, progress)
        if job.shown_as is not None:
            name = job.shown_as
            found = replace(found, slide=replace(found.slide, name=name, path=name))
        write_results(
            found,
            slide,
            job.folder,
            heatmap=options.heatmap,
            origin=options.origin,
            gzip=options.gzip,
            # Before it is there: a result that is there and in no record was not made by `score`.
            when_whole=lambda partial: append_event(
                job.folder.parent, "scored", scored_event(partial, job.folder.name)
            ),
        )
    return found
