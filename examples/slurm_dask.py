"""Score a folder of slides on workers that Dask asks Slurm for.

    pip install '.[dask]'    # in the folder of the clone
    python examples/slurm_dask.py slides/ --model model --output results --jobs 8

The script runs on a login node (or in a small job) until all slides are done. It starts a Dask
scheduler, submits jobs that start workers, hands the scheduler's address to ``wsi-anomaly score
--dask``, and ends the jobs. A job that is killed gives its slides back to the others. A job array
(slurm_array.sh) needs no scheduler; this is for slides of very different sizes, which it shares
out as workers become free.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Any


def cluster_of(cores: int, memory_gb: int, hours: int, queue: str | None, interface: str) -> Any:
    """Describe one job: `cores` workers, each with one slide at a time."""
    from dask_jobqueue import SLURMCluster

    return SLURMCluster(
        queue=queue,
        cores=cores,
        processes=cores,
        memory=f"{memory_gb} GiB",
        walltime=f"{hours:02d}:00:00",
        interface=interface,  # of the network that the nodes share
        # One thread a process: the workers are the parallelism.
        job_script_prologue=["export OMP_NUM_THREADS=1"],
        scheduler_options={"dashboard": False},
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slides")
    parser.add_argument("--model", default="model")
    parser.add_argument("--output", default="results")
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--cores", type=int, default=4, help="of a job")
    parser.add_argument("--memory-gb", type=int, default=8, help="of a job")
    parser.add_argument("--hours", type=int, default=8, help="of a job")
    parser.add_argument("--queue", help="Slurm's partition")
    parser.add_argument("--interface", default="ib0", help="network interface of the nodes")
    asked = parser.parse_args()
    with cluster_of(
        asked.cores, asked.memory_gb, asked.hours, asked.queue, asked.interface
    ) as cluster:
        print(cluster.job_script())
        cluster.scale(jobs=asked.jobs)
        command = [
            sys.executable, "-m", "wsi_anomaly", "score", asked.slides, "--model", asked.model,
            "--output", asked.output, "--heatmap", "--dask", cluster.scheduler_address,
        ]  # fmt: skip
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
