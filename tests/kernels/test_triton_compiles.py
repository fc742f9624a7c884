"""The Triton kernels as the compiler sees them, and how their backends are chosen."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deltaprune.errors import UserError
from deltaprune.kernels import _backend as machinery
from deltaprune.kernels import _triton, select
from deltaprune.kernels.selective_scan import triton as scan

SCANS = ("scan8", "scan32", "scan_extras", "ends32", "state8", "state32", "state_extras", "fold")
OPS = ["selective_scan", "scan_state", "causal_conv1d", "rms_norm", "hidden_attention", "layer_step"]


def python(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, without the interpreter that this one runs Triton in."""
    source = str(Path(machinery.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": source, "TRITON_INTERPRET": "0", **more}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


def test_machine_code_for_an_h100(tmp_path):
    """One test, for it compiles everything. What `plan` and the kernels' speed rest on:

    - nothing moves between threads through shared memory: in the scan it would do so at every step;
    - 16 warps of the scan, 4 per scheduler, fit into the 65536 registers of a multiprocessor;
    - a row of the scan is some 150 instructions, of which a scheduler issues one per cycle; its 19 exponentials and
      roots take 152 cycles. Five per state and thread, four without outputs, is the least: fewer is another loop;
    - a decode step reads its weights before it waits for the launch before, and 3 or 4 programs of a product fit.
    """
    pytest.importorskip("triton")
    done = python(str(Path(__file__).with_name("triton_compile.py")), TRITON_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert all(kernel["cubin"] > 1000 for kernel in told.values())
    assert {name: kernel["spilled"] for name, kernel in told.items()} == dict.fromkeys(told, 0)
    assert not any(told[name]["shared"] for name in (*SCANS, "conv"))
    limits = [("scan32", 80, 170), ("ends32", 64, 120), ("scan8", 20, 110), ("state32", 64, 120), ("state8", 16, 80)]
    for name, least, most in limits:
        assert told[name]["registers"] <= 65536 // (16 * 32), name
        assert least <= told[name]["loop"] / scan.ROWS <= most, name
    for name, fit, loads in (("in_conv", 3, 17), ("x_proj", 4, 5), ("dt_scan", 4, 9), ("out_proj", 4, 10)):
        assert told[name]["registers"] <= 65536 // (fit * 128), name
        assert told[name]["ahead"] >= loads, name


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
from deltaprune.errors import UserError
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
