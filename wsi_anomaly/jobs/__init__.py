"""Many items: in this process, in others, on a Dask cluster, in a job array; outcome of each."""

from wsi_anomaly.jobs.outcome import Job, Outcome, StopError, Work, attempt
from wsi_anomaly.jobs.processes import available_cores, kept_apart
from wsi_anomaly.jobs.progress import Progress, Running, Watch
from wsi_anomaly.jobs.run import run_jobs
from wsi_anomaly.jobs.shards import parse_shard, take_shard

__all__ = [
    "Job",
    "Outcome",
    "Progress",
    "Running",
    "StopError",
    "Watch",
    "Work",
    "attempt",
    "available_cores",
    "kept_apart",
    "parse_shard",
    "run_jobs",
    "take_shard",
]
