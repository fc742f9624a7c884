"""What the usual command leaves out is said, with its number and how to run it."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = [
    "tests/cuda_graphs/test_prefills_gpu.py",
    "tests/evaluate/test_store.py",
]  # every test needs a GPU; one test is slow


def test_the_number_of_tests_left_out_is_told() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *FILES]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    gpu = re.search(r"^(\d+) tests were left out that need a GPU: sh runs/gpu.sh runs them there$", told, re.MULTILINE)
    slow = re.search(r"^(\d+) tests were left out that are slow: pytest -m slow runs them$", told, re.MULTILINE)
    deselected = re.search(r"(\d+) deselected", told)
    assert gpu is not None, told
    assert slow is not None, told
    assert deselected is not None, told
    assert "test_replays_gpu" not in told.split("tests were left out")[0]
    assert int(slow[1]) == 1
    assert int(gpu[1]) > 1
    assert int(gpu[1]) + int(slow[1]) == int(deselected[1])
