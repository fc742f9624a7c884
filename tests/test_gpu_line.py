"""A run that leaves out the tests for accelerators says so."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILE = "tests/mamba/test_replays_gpu.py"


@pytest.mark.parametrize("expression", ["not gpu", "gpu"])
def test_the_summary_counts_the_gpu_tests_that_are_left_out(expression: str) -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", expression, FILE]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    deselected = re.findall(r"\((\d+) deselected\)", out)
    assert len(deselected) == (expression == "not gpu"), out
    assert re.findall(r"NOT RUN: (\d+) tests that need an accelerator", out) == deselected
