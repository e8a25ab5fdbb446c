"""Many slides become many results folders: in this process, in others, or on a Dask cluster."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from wsi_anomaly.core.errors import WsiAnomalyError
from wsi_anomaly.core.files import remove_left_behind
from wsi_anomaly.core.remote import from_anywhere
from wsi_anomaly.jobs import Outcome, Progress, StopError, Watch, available_cores, run_jobs
from wsi_anomaly.overlays.jobs import ScoreOptions, is_done, score_to_folder
from wsi_anomaly.overlays.worklist import read_summary
from wsi_anomaly.scoring import Controls, ScoringModel, load_model


@dataclass(frozen=True)
class ScoreJob:
    """One slide to score, and the folder of its results.

    Attributes
    ----------
    slide, folder
        From where to where.
    controls
        Concurrent controls that are its reference.
    shown_as
        Name under which its results show it, in place of its own.
    """

    slide: Path
    folder: Path
    controls: Controls | None = None
    shown_as: str | None = None

    def options(self, common: ScoreOptions) -> ScoreOptions:
        """Options of this slide: those of all, and its own."""
        return replace(common, controls=self.controls, shown_as=self.shown_as)

    def from_anywhere(self) -> Self:
        """Return the same with whole paths."""
        return replace(self, slide=from_anywhere(self.slide), folder=self.folder.absolute())


@dataclass(frozen=True)
class Scored:
    """Result of a slide.

    Attributes
    ----------
    summary
        Its ``summary.json``.
    kept
        Whether it was there already.
    """

    summary: Mapping[str, Any]
    kept: bool = False


ScoreOutcome = Outcome[ScoreJob, Scored]


@dataclass(frozen=True)
class Scoring:
    """How slides are scored, wherever that is: can be sent to another process or machine.

    Attributes
    ----------
    model
        Folder of the model; every process loads it once.
    device
        Where its networks compute.
    options
        What is computed and written.
    resume
        Keep results that are there.
    threads
        Of torch in each process; None: as many as it likes.
    loaded
        The model, for work in this process only.
    """

    model: Path
    device: str
    options: ScoreOptions
    resume: bool = True
    threads: int | None = None
    loaded: ScoringModel | None = None
    verb: ClassVar[str] = "scored"

    def __call__(self, job: ScoreJob, report: Progress) -> Scored:
        """Score one slide into its folder."""
        model = self.loaded
        if model is None:
            try:
                model = load_model(self.model, self.device, self.threads)
            except WsiAnomalyError as error:
                raise StopError(str(error)) from error
            # A cluster gives a slide out again when a worker's answer is lost: it may be done.
            if self.resume and (kept := self.kept(job, model)) is not None:
                return kept
        return self.score(job, model, report)

    def from_anywhere(self) -> Self:
        """Return the same with a whole path."""
        return replace(self, model=self.model.absolute())

    def kept(self, job: ScoreJob, model: ScoringModel) -> Scored | None:
        """Look for a result of this very model and these settings."""
        if not is_done(job.slide, model, job.folder, job.options(self.options)):
            return None
        return Scored(read_summary(job.folder) or {}, kept=True)

    def score(self, job: ScoreJob, model: ScoringModel, report: Progress) -> Scored:
        """Score one slide with a loaded model."""
        score_to_folder(job.slide, model, job.folder, job.options(self.options), report)
        return Scored(read_summary(job.folder) or {})


def score_slides(
    jobs: Sequence[ScoreJob],
    model: ScoringModel,
    scoring: Scoring,
    *,
    workers: int = 1,
    dask: str | None = None,
    watch: Watch[ScoreJob] | None = None,
) -> Generator[ScoreOutcome]:
    """Score slides, several at a time.

    Parameters
    ----------
    jobs
        The slides.
    model
        Already loaded, for work in this process and to tell what is done.
    scoring
        What other processes do.
    workers
        Processes; 1: this one.
    dask, watch
        See :func:`~wsi_anomaly.jobs.run.run_jobs`.

    Yields
    ------
    Each slide as it is done, those that are kept first.

    Raises
    ------
    OutputError
        The results cannot be written; what is finished stays.
    """
    for results in {job.folder.parent for job in jobs}:
        remove_left_behind(results)
    left: list[ScoreJob] = []
    for job in jobs:
        if scoring.resume and (kept := scoring.kept(job, model)) is not None:
            yield Outcome(job, kept)
        else:
            left.append(job)
    if dask is None and (workers == 1 or len(left) < 2):
        scoring, workers = replace(scoring, loaded=model), 0
    for outcome in run_jobs(scoring, left, workers=workers, dask=dask, watch=watch):
        if outcome.fatal:
            raise outcome.as_error()
        yield outcome


def default_workers(device: str, slides: int) -> int:
    """Choose the number of processes: one for each core, a single one with a GPU."""
    return 1 if device != "cpu" else max(1, min(slides, available_cores()))
