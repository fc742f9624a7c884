#!/bin/sh
# The GPU kernels in one go, under 9 minutes: correctness, then figures; the table is printed last.
#   runs/gpu.sh [DIR]        DIR receives gpu.json and bench_gpu.md (numbers/ unless told)
# Needs a CUDA GPU and python3 with torch, triton, numpy and jaxtyping; nothing is installed or downloaded.
# With pytest and beartype there as well, the kernel tests run on the GPU first.
set -eu
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD/src:$PWD/runs${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
unset TRITON_INTERPRET
if python3 -c "import pytest, beartype" 2>/dev/null; then
    timeout 150 python3 -m pytest -q -m "not slow" tests/kernels tests/mamba/test_graphs.py || echo "TESTS FAILED: $?"
fi
timeout 380 python3 runs/gpu.py --sweep --out "${1:-numbers}"
