"""Warnings are errors in the tests, never for a user: the library leaves Python's filters as they are."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

EVERYTHING = """
import importlib, pkgutil, sys, warnings

sys.argv = ["deltaprune"]
import matplotlib.figure, numba, ray, torch, transformers  # whose own filters do not count

before = list(warnings.filters)
import deltaprune

for module in pkgutil.walk_packages(deltaprune.__path__, "deltaprune."):
    if module.name not in ("deltaprune.lmms_eval.model", "deltaprune.cost.peers.mamba_ssm"):  # they need their package
        importlib.import_module(module.name)
from deltaprune.cli import run

assert run(["ask", "examples/triangles.png", "Where is the green star?"]) == 0
errors = [each for each in warnings.filters if each[0] == "error" and each not in before]
assert not errors, errors
warnings.warn("old", DeprecationWarning)
warnings.warn("older", FutureWarning)
print("done")
"""


def test_no_warning_is_turned_into_an_error_for_a_user() -> None:
    done = subprocess.run([sys.executable, "-c", EVERYTHING], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("done\n")
