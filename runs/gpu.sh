#!/bin/sh
# The GPU kernels in one go, under 9 minutes: correctness, then figures; the table is printed last.
#   runs/gpu.sh [DIR]        DIR receives gpu.json, bench_gpu.md and the logs (numbers/ unless told)
# Needs a CUDA GPU and python3 with torch, triton, numpy and jaxtyping; nothing is installed or downloaded.
# With pytest and the library's own dependencies there as well, the Triton tests run on the GPU first; with beartype
# under the shape checks, with pytest-xdist on eight processes.
# Carry .peers/ along, which runs/mamba_ssm_kernels.py prepares, and mamba_ssm is measured beside ours: what it holds for
# this Python and torch is taken as it is, anything else is built beside the tests. Without it, or when the build fails
# or takes more than two minutes, the rest is measured all the same.
set -eu
out=$(realpath -m "${1:-numbers}")
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || out=$PWD/numbers
export PYTHONPATH="$PWD/src:$PWD/runs${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
unset TRITON_INTERPRET
has() { python3 -c "import $1" 2>/dev/null; }
mkdir -p "$out"
if [ -d .peers ]; then
    nice -n 10 timeout -k 5 120 python3 runs/mamba_ssm_kernels.py build >"$out/gpu_peers.log" 2>&1 &
    building=$!
fi
if has pytest; then
    set -- -q -W default -m "not slow" tests/cuda_graphs/test_step.py tests/cuda_graphs/test_prefills_gpu.py \
        tests/kernels/test_triton_*.py tests/kernels/test_rms_norm.py tests/kernels/test_layer_step.py \
        tests/kernels/test_hidden_attention.py tests/models/test_load.py tests/test_waiting.py
    has beartype || set -- -o addopts= "$@"
    has xdist && set -- -n 8 "$@"
    timeout -k 5 120 python3 -m pytest "$@" >"$out/gpu_tests.log" 2>&1 || echo "TESTS FAILED OR NOT FINISHED: $?"
    tail -n 15 "$out/gpu_tests.log"
fi
if [ -z "${building:-}" ]; then
    echo "mamba_ssm is not measured: there is no .peers/"
elif wait "$building"; then
    PYTHONPATH="$(tail -n 1 "$out/gpu_peers.log"):$PYTHONPATH"
else
    echo "MAMBA_SSM NOT BUILT, it is not measured:"
    tail -n 15 "$out/gpu_peers.log"
fi
timeout -k 20 380 python3 runs/gpu.py --sweep --out "$out"
