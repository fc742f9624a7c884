"""New processes: the second compiles nothing, and a processor without AVX-512 computes the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import deltaprune

RUN = """
import importlib, torch
from deltaprune.cost.verify import verify_kernels
taken = verify_kernels(torch.device("cpu"), torch.float32)
assert taken == {"selective_scan": "numba", "causal_conv1d": "numba", "rms_norm": "reference"}
assert verify_kernels(torch.device("cpu"), torch.bfloat16)
"""
COUNT = """
scan, conv = (importlib.import_module(f"deltaprune.kernels.{op}.numba") for op in ("selective_scan", "causal_conv1d"))
for kernel in (scan._scan, scan._mean, conv._conv):
    print(sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values()))
"""


def fresh(code: str, **environment: str) -> str:
    source = str(Path(deltaprune.__file__).parents[1])
    run = [sys.executable, "-c", code]
    return subprocess.run(
        run, env={**os.environ, "PYTHONPATH": source, **environment}, check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.slow
def test_the_second_process_compiles_nothing(tmp_path: Path) -> None:
    first, second = (fresh(RUN + COUNT, NUMBA_CACHE_DIR=str(tmp_path)).split() for _ in range(2))
    assert first[::2] == ["0", "0", "0"]
    assert all(int(misses) >= 1 for misses in first[1::2])
    assert second[1::2] == ["0", "0", "0"]
    assert second[::2] == first[1::2]


@pytest.mark.slow
def test_without_avx512(tmp_path: Path) -> None:
    fresh(RUN, NUMBA_CPU_NAME="x86-64", NUMBA_CPU_FEATURES="", NUMBA_CACHE_DIR=str(tmp_path))
