"""Choosing a backend: what is asked for runs or says why not; what is chosen is said once."""

import importlib
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from deltaprune.errors import UserError
from deltaprune.kernels import Backend, causal_conv1d, select, use
from deltaprune.kernels import _backend as machinery

SCAN = "deltaprune.kernels.selective_scan"
CONV = "deltaprune.kernels.causal_conv1d"


@pytest.fixture
def fake(monkeypatch):
    """A folder with one unusable, one stateless and one plain backend."""

    def record(name, priority, why=None, **fields):
        fields = {"devices": ("cpu",), "carries_state": True, **fields}
        return Backend(op="op", name=name, probe=lambda: why, fn=print, priority=priority, **fields)

    made = {
        "broken": record("broken", 3, why="its compiler is missing"),
        "stateless": record("stateless", 2, carries_state=False),
        "cuda": record("cuda", 4, devices=("cuda",)),
        "plain": record("plain", 0, devices=("*",), gradients=True),
    }
    monkeypatch.setattr(machinery, "names", lambda package: sorted(made))
    monkeypatch.setattr(machinery, "_load", lambda package, name: made[name])
    monkeypatch.setattr(machinery, "_ranked", lambda package: tuple(sorted(made.values(), key=lambda b: -b.priority)))
    monkeypatch.setattr(machinery, "_LOGGED", set())
    return made


def test_best_usable_is_taken_and_said_once(fake, caplog):
    caplog.set_level(logging.INFO, "deltaprune.kernels")
    for _ in range(3):
        assert select("x.op", "cpu").name == "stateless"
    assert len(caplog.records) == 1
    assert "stateless" in caplog.text
    assert "its compiler is missing" in caplog.text
    assert select("x.op", "cpu", carries_state=True).name == "plain"
    assert select("x.op", "cuda").name == "cuda"


@pytest.mark.parametrize(
    ("asked", "call", "told"),
    [
        ("broken", {}, "its compiler is missing"),
        ("stateless", {"carries_state": True}, "initial state"),
        ("cuda", {}, "runs on cuda, and the tensors are on cpu"),
        ("stateless", {"gradients": True}, "no gradients"),
        ("plian", {}, "did you mean 'plain'"),
    ],
)
def test_what_is_asked_for_and_cannot_run_says_why(fake, asked, call, told):
    with pytest.raises(UserError, match=told):
        select("x.op", "cpu", asked, **call)


def test_use_forces_and_is_undone():
    with use("reference"):
        assert select(SCAN, "cpu").name == select(CONV, "cpu").name == "reference"
        with use(selective_scan="numba"):
            assert select(SCAN, "cpu").name == "numba"
            assert select(CONV, "cpu").name == "reference"
        assert select(SCAN, "cpu", "numba").name == "numba"
    assert select(SCAN, "cpu").name == "numba"
    with pytest.raises(UserError, match="did you mean 'selective_scan'"), use(selective_scn="numba"):
        pass
    with pytest.raises(UserError, match="no op has that backend: did you mean 'numba'"), use("nunba"):
        pass


def test_use_leaves_ops_without_that_backend_alone():
    with use("triton"):
        assert select("deltaprune.kernels.matvec", "cpu").name == "numba"


def test_types_and_gradients_steer_the_choice():
    assert select(SCAN, "cpu", dtype=torch.float64).name == "reference"
    assert select(SCAN, "cpu", gradients=True).name == "reference"
    with pytest.raises(UserError, match="float64"):
        select(SCAN, "cpu", "numba", dtype=torch.float64)


def test_a_file_that_cannot_be_imported_is_reported(monkeypatch, caplog):
    def fail(name, package=None):
        if name == f"{SCAN}.numba":
            raise ImportError("Numba needs NumPy 2.3 or less")
        return real(name, package)

    real = importlib.import_module
    machinery._load.cache_clear()
    machinery._ranked.cache_clear()
    monkeypatch.setattr(importlib, "import_module", fail)
    try:
        for _ in range(2):
            assert select(SCAN, "cpu").name == "reference"
        warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
        assert len(warnings) == 1
        assert "NumPy 2.3" in warnings[0].getMessage()
        with pytest.raises(UserError, match=r"NumPy 2\.3"):
            select(SCAN, "cpu", "numba")
    finally:
        machinery._load.cache_clear()
        machinery._ranked.cache_clear()


def test_importing_kernels_imports_no_numba():
    code = "import sys, deltaprune.kernels; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment(), check=False).returncode == 0


def environment(**more: str) -> dict[str, str]:
    source = str(Path(machinery.__file__).parents[2])
    return {**os.environ, "PYTHONPATH": source, **more}


def test_compiles_where_no_cache_can_be_written():
    """numba finds no folder at all: no cache, and the same answer."""
    code = """
import numba.core.caching as c
c.FunctionCache._impl_class._locator_classes = []
import torch; from deltaprune.kernels import causal_conv1d
out, _ = causal_conv1d(torch.ones(3, 2), torch.ones(2, 4), torch.zeros(2), torch.tensor([0, 3], dtype=torch.int32))
assert torch.allclose(out, torch.nn.functional.silu(torch.tensor([1., 2, 3])[:, None].expand(3, 2)))
"""
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)


def test_two_threads_at_once():
    x, weight, bounds = torch.ones(400, 512), torch.ones(512, 4), torch.tensor([0, 400], dtype=torch.int32)
    want, results = causal_conv1d(x, weight, torch.zeros(512), bounds)[0], []

    def work():
        results.extend(causal_conv1d(x, weight, torch.zeros(512), bounds)[0] for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 80
    assert all(torch.equal(want, r) for r in results)
