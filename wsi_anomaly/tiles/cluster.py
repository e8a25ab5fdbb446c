"""Many slides on a Dask cluster: the same function for each slide as on one machine."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

from wsi_anomaly.core.cluster import run_on_cluster
from wsi_anomaly.core.remote import is_remote
from wsi_anomaly.tiles.config import TileConfig
from wsi_anomaly.tiles.jobs import Job
from wsi_anomaly.tiles.pool import Outcome, Tiling


def tile_slides_on_cluster(
    jobs: Sequence[Job], out_dir: Path, config: TileConfig, address: str, *, resume: bool = True
) -> Generator[Outcome]:
    """Tile slides on the machines of a cluster, which see the same files under the same paths.

    Yields
    ------
    An :class:`Outcome` for each job as it ends. Closing the iterator cancels what is left.

    Raises
    ------
    UsageError
        Dask is not installed, or its scheduler does not answer.
    """
    work = Tiling(out_dir.resolve(), config, resume)
    for finished in run_on_cluster(work, [_resolved(job) for job in jobs], address):
        job = jobs[finished.index]
        if finished.result is None:
            yield Outcome(
                job,
                None,
                f"{job.slide} was lost with the machine that worked on it; run the same command "
                "again.",
            )
        else:
            yield replace(finished.result, job=job)


def _resolved(job: Job) -> Job:
    """Workers have other working folders: every path whole."""
    return replace(
        job,
        slide=job.slide if is_remote(job.slide) else job.slide.resolve(),
        tissue_mask=job.tissue_mask and job.tissue_mask.resolve(),
        annotations=job.annotations and job.annotations.resolve(),
    )
