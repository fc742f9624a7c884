"""`runs/gpu.sh`: where things are written, and that mamba_ssm, brought along or not, costs nothing of ours."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "runs/gpu.sh"
PYTHON = """#!/bin/sh
case "$*" in
-c*) exit 1 ;;
*mamba_ssm_kernels.py*) echo "compiling"; echo "$SITE"; exit "$BUILT" ;;
*) echo "$PYTHONPATH | $*" ;;
esac
"""


@pytest.fixture
def gpu_sh(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(SCRIPT, tmp_path / "runs")
    (tmp_path / "bin/python3").write_text(PYTHON)
    (tmp_path / "bin/python3").chmod(0o755)

    def run(*arguments: str, built: int = 0) -> str:
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "SITE": "/the/site", "BUILT": str(built), "PYTHONPATH": ""}
        command = ["sh", str(tmp_path / "runs/gpu.sh"), *arguments]
        return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    return run


@pytest.mark.parametrize(("arguments", "out"), [((), "numbers"), (("here",), "here"), (("a b/c",), "a b/c")])
def test_the_run_is_told_where_to_write(gpu_sh, tmp_path, arguments, out):
    told = gpu_sh(*arguments).splitlines()
    assert told == [
        "mamba_ssm is not measured: there is no .peers/",
        f"{tmp_path}/src:{tmp_path}/runs | runs/gpu.py --sweep --out {tmp_path / out}",
    ]


def test_what_was_built_is_importable_in_the_run(gpu_sh, tmp_path):
    (tmp_path / ".peers").mkdir()
    (told,) = gpu_sh("out").splitlines()
    assert told.startswith(f"/the/site:{tmp_path}/src:{tmp_path}/runs | runs/gpu.py")


def test_a_failed_build_is_told_and_the_run_goes_on(gpu_sh, tmp_path):
    (tmp_path / ".peers").mkdir()
    *told, last = gpu_sh("out", built=1).splitlines()
    assert told[0] == "MAMBA_SSM NOT BUILT, it is not measured:"
    assert "compiling" in told
    assert last.startswith(f"{tmp_path}/src:{tmp_path}/runs | runs/gpu.py")


def test_it_runs_every_test_that_needs_a_gpu():
    root, script = SCRIPT.parents[1], SCRIPT.read_text(encoding="utf-8")
    mark = re.compile(r"^(@|pytestmark = )pytest\.mark\.gpu$", re.MULTILINE)
    marked = [path for path in (root / "tests").rglob("test_*.py") if mark.search(path.read_text(encoding="utf-8"))]
    assert len(marked) >= 3
    for path in marked:
        assert path.relative_to(root).as_posix() in script
