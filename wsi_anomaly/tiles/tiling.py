"""Many slides become many tile files; a slide that fails does not touch the others."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

from wsi_anomaly.core.files import remove_left_behind
from wsi_anomaly.core.staging import Cache
from wsi_anomaly.jobs import Outcome, Progress, Watch, run_jobs
from wsi_anomaly.tiles.config import TileConfig
from wsi_anomaly.tiles.extraction import TileResult, tile_slide
from wsi_anomaly.tiles.jobs import Job
from wsi_anomaly.tiles.store import SUFFIX

TileOutcome = Outcome[Job, TileResult]


@dataclass(frozen=True)
class Tiling:
    """What is done with one slide, wherever that is: can be sent to another process or machine."""

    out_dir: Path
    config: TileConfig
    resume: bool = True
    verb: ClassVar[str] = "tiled"

    def __call__(self, job: Job, report: Progress) -> TileResult:
        """Tile one slide; its progress has a :class:`~wsi_anomaly.tiles.extraction.Stage`."""
        return tile_slide(job, self.out_dir, self.config, resume=self.resume, progress=report)

    def from_anywhere(self) -> Self:
        """Return the same with a whole path."""
        return replace(self, out_dir=self.out_dir.absolute())


def tile_slides(
    jobs: Sequence[Job],
    out_dir: Path,
    config: TileConfig,
    *,
    workers: int = 1,
    dask: str | None = None,
    resume: bool = True,
    watch: Watch[Job] | None = None,
    cache: Cache | None = None,
) -> Generator[TileOutcome]:
    """Tile slides side by side, in processes or on a Dask cluster; with 0 workers in this process.

    See :func:`~wsi_anomaly.jobs.run.run_jobs` for `workers`, `dask`, `watch`, `cache`, and what is
    yielded.
    """
    if cache is not None and resume:  # to see that it is done, a slide is not copied
        there = (job.slide for job in jobs if (out_dir / f"{job.name}{SUFFIX}").exists())
        cache = replace(cache, leave=frozenset(there))
    work = Tiling(out_dir, config, resume)
    try:
        yield from run_jobs(work, jobs, workers=workers, dask=dask, watch=watch, cache=cache)
    finally:
        remove_left_behind(out_dir)
