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
verify_kernels(torch.device("cpu"), torch.float32)
taken = verify_kernels(torch.device("cpu"), torch.bfloat16)
from deltaprune.kernels._numba_vectors import PAIRS, TILES
from deltaprune.kernels.matmul.numba import PAIRED
for op, here in {"softmax_attention": PAIRS and not TILES, "layer_rows": PAIRED}.items():
    assert (taken[op] == "numba") == here, op
    if not here:
        del taken[op]
assert set(taken.values()) == {"numba"}
"""
COUNT = """
for op in sorted(taken):
    for name, kernel in vars(importlib.import_module(f"deltaprune.kernels.{op}.numba")).items():
        if getattr(kernel, "targetoptions", {}).get("parallel") and f"{op}.{name}" not in INNER:
            print(sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values()))
"""
INNER = (
    "layer_rows._add",
    "token_step._head",
)  # called by compiled code alone: the cache holds them with their callers


def fresh(code: str, **environment: str) -> str:
    source = str(Path(deltaprune.__file__).parents[1])
    run = [sys.executable, "-c", code]
    return subprocess.run(
        run, env={**os.environ, "PYTHONPATH": source, **environment}, check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.slow
def test_the_second_process_compiles_nothing(tmp_path: Path) -> None:
    first, second = (fresh(f"{RUN}\nINNER = {INNER}{COUNT}", NUMBA_CACHE_DIR=str(tmp_path)).split() for _ in range(2))
    assert set(first[::2]) == {"0"}
    assert all(int(misses) >= 1 for misses in first[1::2])
    assert set(second[1::2]) == {"0"}
    assert second[::2] == first[1::2]


PRODUCTS = """
from deltaprune.kernels import matvec
torch.manual_seed(0)
x, weight = torch.randn(5, 100), torch.randn(90, 100)
print(matvec(x, weight).double().sum().item(), matvec(x.bfloat16(), weight.bfloat16(), torch.float32)[:, :3].tolist())
"""


@pytest.mark.slow
def test_without_avx512(tmp_path: Path) -> None:
    narrow = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"}
    fresh(RUN, NUMBA_CPU_NAME="x86-64", NUMBA_CPU_FEATURES="", NUMBA_CACHE_DIR=str(tmp_path))
    there = fresh("import torch" + PRODUCTS, NUMBA_CACHE_DIR=str(tmp_path), **narrow)
    assert there == fresh("import torch" + PRODUCTS, NUMBA_CACHE_DIR=str(tmp_path)), "one order on every processor"


def test_torch_keeps_its_threads(tmp_path: Path) -> None:
    """numba's first parallel kernel sets OpenMP's number of threads, which is torch's."""
    code = """
import torch
from deltaprune.kernels import causal_conv1d
for threads in (1, 3):
    torch.set_num_threads(threads)
    causal_conv1d(torch.ones(3, 2), torch.ones(2, 4), torch.zeros(2), torch.tensor([0, 3], dtype=torch.int32))
    assert torch.get_num_threads() == threads, torch.get_num_threads()
"""
    fresh(code, NUMBA_CACHE_DIR=str(tmp_path), NUMBA_NUM_THREADS="2")
