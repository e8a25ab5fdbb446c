"""Many slides on the processes of one machine; a slide that fails does not touch the others."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from wsi_anomaly.core.errors import WsiAnomalyError
from wsi_anomaly.core.files import remove_left_behind
from wsi_anomaly.core.pool import Finished, Report, run_in_processes
from wsi_anomaly.tiles.config import TileConfig
from wsi_anomaly.tiles.extraction import Progress, TileResult, tile_slide
from wsi_anomaly.tiles.jobs import Job

STAGES = ("opening", "tissue", "stain", "tiles")


@dataclass(frozen=True)
class Outcome:
    """What became of one job: a result, or the sentence that says why there is none."""

    job: Job
    result: TileResult | None
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Running:
    """How far a slide is."""

    job: Job
    stage: str
    done: int
    total: int


Event = Outcome | list[Running]
"""Either a finished slide, or, several times a second, all that are under way."""


def run_job(
    job: Job, out_dir: Path, config: TileConfig, resume: bool, progress: Progress | None
) -> Outcome:
    """Tile one slide; every error becomes an outcome."""
    started = time.perf_counter()
    try:
        result = tile_slide(
            job.slide,
            out_dir,
            config,
            mpp=job.mpp,
            resume=resume,
            name=job.name,
            case=job.case,
            tissue_mask=job.tissue_mask,
            annotations=job.annotations,
            backend=job.backend,
            progress=progress,
        )
    except WsiAnomalyError as error:
        return Outcome(job, None, str(error), time.perf_counter() - started)
    except OSError as error:
        sentence = (
            f"{job.slide} cannot be read any more ({error.strerror or error}); check the disk and "
            "run the same command again."
        )
        return Outcome(job, None, sentence, time.perf_counter() - started)
    except MemoryError:
        sentence = f"{job.slide} needs more memory than there is; use fewer --workers."
        return Outcome(job, None, sentence, time.perf_counter() - started)
    except Exception as error:  # noqa: BLE001 - one bad slide must not stop the others
        text = " ".join(str(error).split()) or "no message"
        sentence = (
            f"{job.slide} could not be tiled: unexpected {type(error).__name__}: {text} (run this "
            "slide alone with --debug for the details)."
        )
        return Outcome(job, None, sentence, time.perf_counter() - started)
    return Outcome(job, result, "", time.perf_counter() - started)


@dataclass(frozen=True)
class Tiling:
    """What is done with one slide, wherever that is: can be sent to another process or machine."""

    out_dir: Path
    config: TileConfig
    resume: bool

    def __call__(self, job: Job, report: Report) -> Outcome:
        """Tile one slide; every error becomes an outcome."""

        def progress(stage: str, done: int, total: int) -> None:
            report(done, total, STAGES.index(stage))

        return run_job(job, self.out_dir, self.config, self.resume, progress)


def tile_slides(
    jobs: Sequence[Job],
    out_dir: Path,
    config: TileConfig,
    *,
    workers: int = 1,
    resume: bool = True,
) -> Generator[Event]:
    """Tile slides side by side.

    Yields
    ------
    An :class:`Outcome` for each job as it ends, in between the list of those under way.
    Closing the iterator (or Ctrl-C) ends the processes; what is finished stays.
    """
    events = run_in_processes(Tiling(out_dir, config, resume), jobs, workers)
    try:
        with closing(events):
            for event in events:
                if isinstance(event, Finished):
                    yield event.result or _lost(jobs[event.index])
                else:
                    yield [Running(jobs[r.index], STAGES[r.stage], r.done, r.total) for r in event]
    finally:
        remove_left_behind(out_dir)


def _lost(job: Job) -> Outcome:
    return Outcome(
        job,
        None,
        f"{job.slide} ended its process (out of memory, or a fault in the slide's decoder); use "
        "fewer --workers or leave it out.",
    )
