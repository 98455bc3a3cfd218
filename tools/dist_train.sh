#!/usr/bin/env bash
# Train with one process a GPU: tools/dist_train.sh CONFIG NUM_GPUS [OPTIONS of train.py]
# Several machines: NNODES=2 NODE_RANK=0 MASTER_ADDR=host PORT=29500, on each its own rank.
set -euo pipefail
tools=$(dirname "${BASH_SOURCE[0]}")
if [ $# -lt 2 ]; then
  echo "error: usage: $0 CONFIG NUM_GPUS [OPTIONS of train.py]" >&2
  exit 2
fi
config=$1 num_gpus=$2
exec "${PYTHON:-python}" -m mmdet_imbalance.cli.launch \
  "$num_gpus" "$tools/train.py" "$config" "${@:3}"
