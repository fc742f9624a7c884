"""A run that leaves out the tests for accelerators says so."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE = "tests/mamba/test_replays_gpu.py"


def test_the_summary_counts_the_gpu_tests_that_are_left_out() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", FILE]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    (deselected,) = re.findall(r"\((\d+) deselected\)", out)
    assert re.findall(r"NOT RUN: (\d+) tests that need an accelerator", out) == [deselected]
