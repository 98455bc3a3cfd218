#!/usr/bin/env bash
# Test with one process a GPU: tools/dist_test.sh CONFIG CHECKPOINT NUM_GPUS [OPTIONS of test.py]
set -euo pipefail
tools=$(dirname "${BASH_SOURCE[0]}")
if [ $# -lt 3 ]; then
  echo "error: usage: $0 CONFIG CHECKPOINT NUM_GPUS [OPTIONS of test.py]" >&2
  exit 2
fi
config=$1 checkpoint=$2 num_gpus=$3
exec "${PYTHON:-python}" -m mmdet_imbalance.cli.launch \
  "$num_gpus" "$tools/test.py" "$config" "$checkpoint" "${@:4}"
