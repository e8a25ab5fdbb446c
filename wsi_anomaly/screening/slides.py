"""Many slides become many results folders: in this process, in others, or on a Dask cluster."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from wsi_anomaly.core import journal
from wsi_anomaly.core.devices import choose_device, memory_explained, slides_on
from wsi_anomaly.core.errors import WsiAnomalyError
from wsi_anomaly.core.files import remove_left_behind
from wsi_anomaly.core.staging import Cache
from wsi_anomaly.jobs import (
    Outcome,
    Progress,
    StopError,
    Watch,
    available_cores,
    kept_apart,
    run_jobs,
)
from wsi_anomaly.options import ScoreOptions
from wsi_anomaly.results.summary import read_summary
from wsi_anomaly.scoring import ScoreMap, ScoringModel, load_model
from wsi_anomaly.screening.slide import ScoreJob, is_done, score_to_folder
from wsi_anomaly.tiles.named import Note


@dataclass(frozen=True)
class Scored:
    """Result of a slide.

    Attributes
    ----------
    summary
        Its ``summary.json``.
    kept
        Whether it was there already.
    score_map
        What was found; None where it is not at hand (kept, or scored by another process).
    """

    summary: Mapping[str, Any]
    kept: bool = False
    score_map: ScoreMap | None = None


ScoreOutcome = Outcome[ScoreJob, Scored]


@dataclass(frozen=True)
class Scoring:
    """How slides are scored, wherever that is: can be sent to another process or machine.

    Attributes
    ----------
    model
        Folder of the model; every process loads it once. None: each slide is its own reference.
    options
        What is computed, where, and what is written.
    threads
        Of torch in each process; None: as many as it likes.
    loaded
        The model, for work in this process only.
    together
        Whether one process computes for all that read, so that a GPU is fed by every core.
    address
        Of the process that computes for this one.
    """

    model: Path | None
    options: ScoreOptions
    threads: int | None = None
    loaded: ScoringModel | None = None
    together: bool = False
    address: str | None = None
    verb: ClassVar[str] = "scored"

    def __call__(self, job: ScoreJob, report: Progress) -> Scored:
        """Score one slide into its folder."""
        if self.loaded is not None:
            return self.score(job, self.loaded, report)
        try:
            model = self._own_model()
        except WsiAnomalyError as error:
            raise StopError(str(error)) from error
        # A cluster gives a slide out again when a worker's answer is lost: it may be done.
        if self.options.resume and (kept := self.kept(job, model)) is not None:
            return kept
        return replace(self.score(job, model, report), score_map=None)  # too much to send

    def _own_model(self) -> ScoringModel:
        """Load the model of this process."""
        if self.address is None:
            return load_model(self.model, self.options.device, self.threads)
        from wsi_anomaly.scoring.served import served  # heavy, as models are

        return served(load_model(self.model, "cpu", self.threads), self.address)

    @classmethod
    def of(cls, model: Path | None, options: ScoreOptions, slides: int) -> Self:
        """Settle what the options leave open, for so many slides.

        Raises
        ------
        UsageError
            The device is unknown, or not there.
        """
        # A worker of a cluster chooses by what it has itself.
        device = options.device if options.dask else choose_device(options.device)
        workers = options.workers or min(slides, available_cores())
        if options.workers is None and device.startswith("cuda") and not options.dask:
            workers = slides_on(device, workers)
        mask, normal, out = (
            None if place is None else Path(place).absolute()
            for place in (options.tissue_mask, options.normal, options.embeddings_out)
        )
        return cls(
            model,
            replace(
                options,
                device=device,
                workers=workers,
                tissue_mask=mask,
                normal=normal,
                embeddings_out=out,
            ),
            max(1, available_cores() // workers) if workers > 1 else None,
            together=device.startswith("cuda") and not options.dask,
        )

    @property
    def device_here(self) -> str:
        """What this process computes on: with a cluster it only asks the model what it is."""
        return "cpu" if self.options.dask else self.options.device

    def from_anywhere(self) -> Self:
        """Return the same with a whole path."""
        return replace(self, model=self.model and self.model.absolute())

    def kept(self, job: ScoreJob, model: ScoringModel) -> Scored | None:
        """Look for a result of this very model and these settings."""
        if not is_done(job, model, self.options):
            return None
        return Scored(read_summary(job.folder) or {}, kept=True)

    def score(self, job: ScoreJob, model: ScoringModel, report: Progress) -> Scored:
        """Score one slide with a loaded model."""
        with memory_explained(self.options.device, "use fewer --workers, or --device cpu"):
            found = score_to_folder(job, model, self.options, report)
        return Scored(read_summary(job.folder) or {}, score_map=found)


def score_slides(
    jobs: Sequence[ScoreJob],
    model: ScoringModel,
    scoring: Scoring,
    *,
    watch: Watch[ScoreJob] | None = None,
    note: Note = lambda _text: None,
) -> Generator[ScoreOutcome]:
    """Score slides, several at a time.

    Parameters
    ----------
    jobs
        The slides.
    model
        Already loaded, for work in this process and to tell what is done.
    scoring
        How; with more than one worker, what other processes do.
    watch
        Told what is under way.
    note
        Told what the user should read.

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
    options, left = scoring.options, list[ScoreJob]()
    for job in jobs:
        keep = options.resume or journal.was_finished(job.folder)
        if keep and (kept := scoring.kept(job, model)) is not None:
            yield Outcome(job, kept)
        else:
            left.append(job)
    workers = options.workers or 1
    if options.dask is None and (workers == 1 or len(left) < 2) and not kept_apart():
        scoring, workers = replace(scoring, loaded=model), 0
    cache = None if options.cache is None else Cache(Path(options.cache), note)
    with ExitStack() as opened:
        if scoring.together and workers:
            from wsi_anomaly.scoring.served import NetworkServer  # heavy, as models are

            server = opened.enter_context(NetworkServer(model))
            scoring = replace(scoring, address=server.address)
        outcomes = run_jobs(
            scoring, left, workers=workers, dask=options.dask, watch=watch, cache=cache
        )
        # Those that ask end before what answers them.
        for outcome in opened.enter_context(closing(outcomes)):
            if outcome.fatal:
                raise outcome.as_error()
            if not outcome.error:
                journal.finished(outcome.job.folder)
            yield outcome
