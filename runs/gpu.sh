#!/bin/sh
# The GPU kernels in one go, under 9 minutes: correctness, then figures; the table is printed last.
#   runs/gpu.sh [DIR]        DIR receives gpu.json, bench_gpu.md and gpu_tests.log (numbers/ unless told)
# Needs a CUDA GPU and python3 with torch, triton, numpy and jaxtyping; nothing is installed or downloaded.
# With pytest and the library's own dependencies there as well, the Triton tests run on the GPU first; with beartype
# under the shape checks, with pytest-xdist on eight processes.
set -eu
out=$(realpath -m "${1:-numbers}")
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || out=$PWD/numbers
export PYTHONPATH="$PWD/src:$PWD/runs${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
unset TRITON_INTERPRET
has() { python3 -c "import $1" 2>/dev/null; }
if has pytest; then
    set -- -q -W default -m "not slow" tests/kernels/test_triton_*.py tests/kernels/test_rms_norm.py tests/mamba/test_graphs.py
    has beartype || set -- -o addopts= "$@"
    has xdist && set -- -n 8 "$@"
    mkdir -p "$out"
    timeout -k 5 120 python3 -m pytest "$@" >"$out/gpu_tests.log" 2>&1 || echo "TESTS FAILED OR NOT FINISHED: $?"
    tail -n 15 "$out/gpu_tests.log"
fi
timeout -k 20 380 python3 runs/gpu.py --sweep --out "$out"
