"""One slide from file to results folder: what the command line does for each slide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from wsi_anomaly.core.errors import AnnotationError, EmbeddingsError
from wsi_anomaly.core.file_names import output_name, same_on_disk
from wsi_anomaly.core.remote import from_anywhere
from wsi_anomaly.embeddings import EmbeddingsFile
from wsi_anomaly.embeddings.writing import embeddings_out
from wsi_anomaly.jobs import Progress
from wsi_anomaly.options import ScoreOptions
from wsi_anomaly.reports.slide_folder import write_results
from wsi_anomaly.results.reviews import FOLDER as REVIEWS
from wsi_anomaly.results.summary import read_summary, result_hash
from wsi_anomaly.results.trail import append_event, scored_event
from wsi_anomaly.scoring import Controls, ScoreMap, ScoringModel, score_slide, scoring_settings
from wsi_anomaly.slides import Slide, open_slide, slide_fingerprint
from wsi_anomaly.tiles.named import NamedSlides, Note


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


def result_folders(
    slides: Sequence[Path], results: Path, note: Note = lambda _text: None
) -> dict[Path, Path]:
    """Folder of each slide: its name, with the fingerprint where names would collide.

    Names collide within a run, and with an older result of another slide of the same name. A file
    that has changed since it was scored is no other slide: its result takes the former one's place,
    and `note` is told.
    """
    names = Counter(same_on_disk(output_name(path)) for path in slides)
    out = {}
    changed = []
    for path in slides:
        name = output_name(path)
        folder = results / name
        older = _slide_of(folder)
        is_other = bool(older) and older["fingerprint"] != _identity(path)
        is_former = is_other and older.get("path") == str(from_anywhere(path))
        taken = is_other and not is_former
        # Whatever stands where results are written goes: reviews must not.
        taken |= same_on_disk(name) == REVIEWS
        if names[same_on_disk(name)] > 1 or taken:
            folder = results / f"{name}-{_identity(path)}"
        elif is_former and path.exists():
            changed.append(path.name)
        out[path] = folder
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        note(
            f"{changed[0]}{more} changed after being scored; a new result takes the place of the "
            f"former file's, whose reviews stay in {results / REVIEWS}."
        )
    return out


def _slide_of(folder: Path) -> dict[str, Any]:
    """Give what an older result says of its slide; empty where there is none."""
    facts = (read_summary(folder) or {}).get("slide")
    return facts if isinstance(facts, dict) and "fingerprint" in facts else {}


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
