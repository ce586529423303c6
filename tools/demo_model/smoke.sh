#!/bin/sh
# Fifty training steps on two cores: the loss falls and a resumed run is bit-identical.
set -eu
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" OMP_WAIT_POLICY=PASSIVE
exec "${PYTHON:-python3}" "$(dirname "$0")/train.py" --smoke
