#!/usr/bin/env bash
# Train on a SLURM cluster: tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [OPTIONS]
# GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5) and SRUN_ARGS are read from the environment.
set -euo pipefail
tools=$(dirname "${BASH_SOURCE[0]}")
if [ $# -lt 4 ]; then
  echo "error: usage: $0 PARTITION JOB_NAME CONFIG WORK_DIR [OPTIONS of train.py]" >&2
  exit 2
fi
if ! command -v srun >/dev/null; then
  echo 'error: srun not found: this machine is no SLURM node; use tools/dist_train.sh' >&2
  exit 2
fi
partition=$1 job_name=$2 config=$3 work_dir=$4
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-8}
if ((gpus < per_node)); then per_node=$gpus; fi

# SRUN_ARGS holds several options: it is split on purpose.
# shellcheck disable=SC2086
exec srun --partition="$partition" --job-name="$job_name" --gres="gpu:$per_node" \
  --ntasks="$gpus" --ntasks-per-node="$per_node" \
  --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
  "${PYTHON:-python}" -u "$tools/train.py" "$config" --work-dir "$work_dir" \
  --launcher slurm "${@:5}"
