#!/bin/bash
# Score thousands of slides as a Slurm job array: every task takes its share.
#
#   sbatch examples/slurm_array.sh slides/ model/ results/
#
# A slide that fails does not stop its task; what became of each stands in the results. Submit the
# same line again after a time limit or a crash: finished slides are kept.
#SBATCH --job-name=wsi-anomaly
#SBATCH --array=1-16
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=08:00:00
#SBATCH --output=wsi-anomaly-%A_%a.log
set -euo pipefail

slides=${1:?folder of slides}
model=${2:?folder of the model}
results=${3:?folder for the results}

# One thread a process: the workers are the parallelism.
export OMP_NUM_THREADS=1
exec wsi-anomaly score "$slides" --model "$model" --output "$results" --heatmap \
  --shard slurm --workers "${SLURM_CPUS_PER_TASK:-1}"
