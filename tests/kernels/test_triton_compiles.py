"""The Triton kernels as the compiler sees them, and how their backends are chosen."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deltaprune._registry import UserError
from deltaprune.kernels import _backend as machinery
from deltaprune.kernels import _triton, select

OPS = ["selective_scan", "causal_conv1d", "rms_norm"]


def python(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, without the interpreter that this one runs Triton in."""
    source = str(Path(machinery.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": source, "TRITON_INTERPRET": "0", **more}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


def test_all_compile_for_an_h100(tmp_path):
    pytest.importorskip("triton")
    done = python(str(Path(__file__).with_name("triton_compile.py")), TRITON_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert all(kernel["cubin"] > 1000 for kernel in told.values())
    in_registers = {name: kernel["shared"] for name, kernel in told.items() if name.startswith(("scan", "ends"))}
    assert in_registers == dict.fromkeys(in_registers, 0), "the state moves between layouts at every step"


@pytest.mark.parametrize("op", OPS)
def test_never_chosen_for_the_cpu(op):
    assert select(f"deltaprune.kernels.{op}", "cpu").name != "triton"


@pytest.mark.parametrize(
    ("hidden", "told"), [("", "it runs on cuda, and the tensors are on cpu"), ("triton", "triton is not installed")]
)
def test_asked_for_and_unusable_says_why(hidden, told):
    """Without the interpreter; and without triton, where the device would fit."""
    code = f"""
import sys
sys.modules[{hidden!r}] = None
import torch
from deltaprune._registry import UserError
from deltaprune.kernels import select
try:
    select("deltaprune.kernels.selective_scan", "cuda" if {hidden!r} else "cpu", "triton")
except UserError as error:
    print(error)
"""
    done = python("-c", code)
    assert told in done.stdout, done.stderr


def test_choosing_imports_no_triton():
    code = "import sys; from deltaprune.kernels import select; select('deltaprune.kernels.selective_scan', 'cpu'); "
    assert python("-c", code + "sys.exit('triton' in sys.modules)").returncode == 0


def test_runs_where_the_interpreter_is_chosen():
    pytest.importorskip("triton")
    assert _triton.why_not() is None
    assert select("deltaprune.kernels.rms_norm", "cuda" if not _triton.INTERPRETED else "cpu", "triton").capturable
    with pytest.raises(UserError, match="float64"):
        select("deltaprune.kernels.rms_norm", _triton.DEVICES[-1], "triton", dtype=torch.float64)
