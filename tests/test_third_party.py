"""A package of someone else, installed by pip, adds entries of every kind through its entry points."""

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CODE = """
from dataclasses import dataclass, replace

from deltaprune import Delta, Method, Score, Stage
from deltaprune.benchmarks import Benchmark
from deltaprune.models import Family
from deltaprune.models.cobra import COBRA


@dataclass(frozen=True)
class Last(Score):
    needs = frozenset()
    sees_text = False

    def __call__(self, tokens, trace):
        return tokens.origin.float()


@dataclass(frozen=True)
class Once(Method):
    keep: float = 0.5
    score: Score = Delta()

    def steps(self, shape):
        return (Stage(1, self.keep, self.score),)


class Three(Benchmark):
    version = "3"


class Small(Family):
    def config(self):
        return replace(COBRA, name="small", lm=replace(COBRA.lm, n_layers=8))

    def recognises(self, path):
        return False

    def open(self, source, towers=None, tokenizer=None):
        raise NotImplementedError
"""
POINTS = """
[deltaprune.scores]
last = their_package:Last
gone = their_package:Gone

[deltaprune.methods]
once = their_package:Once

[deltaprune.benchmarks]
three = their_package:Three

[deltaprune.models]
small_cobra = their_package:small
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the package's wheel."""
    if importlib.util.find_spec("pip") is None:
        pytest.skip("this environment has no pip to install a package with")
    folder = tmp_path_factory.mktemp("third_party")
    wheel = folder / "their_package-1.0-py3-none-any.whl"
    files = {
        "their_package.py": CODE + "\n\nsmall = Small()\n",
        "their_package-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n",
        "their_package-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "their_package-1.0.dist-info/entry_points.txt": POINTS,
    }
    record = "".join(f"{name},,\n" for name in [*files, "their_package-1.0.dist-info/RECORD"])
    with zipfile.ZipFile(wheel, "w") as packed:
        for name, content in {**files, "their_package-1.0.dist-info/RECORD": record}.items():
            packed.writestr(name, content)
    options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    installing = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder / "site"), str(wheel)]
    done = subprocess.run(installing, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def python(site: Path, code: str) -> str:
    """What a new process prints that has the folder among its site directories."""
    start = f"import site; site.addsitedir({str(site)!r})\n"
    done = subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_score_and_a_method_are_found_by_name_and_work(site: Path) -> None:
    code = """
import torch
from deltaprune.methods import parse, registry
from deltaprune.scores import registry as scores
from deltaprune.selection import select
from deltaprune.steps import Shape
from deltaprune.rows import Rows
from deltaprune.trace import Trace

assert "once" in registry.names() and "last" in scores.names()
method = parse("once:keep=0.4,score=last")
(stage,) = method.checked_steps(Shape(n_layers=4, n_visual=5))
tokens = Rows.pack([torch.zeros(5, 2)], [torch.zeros(2, 2)])
print(method, select(stage, stage.score(tokens, Trace()), tokens).rows.tolist())
"""
    assert python(site, code).strip() == "Once(keep=0.4, score=Last()) [3, 4, 5, 6]"


def test_a_benchmark_and_a_model_are_found_by_name(site: Path) -> None:
    code = """
from deltaprune.benchmarks import registry as benchmarks
from deltaprune.models import registry as models

print(benchmarks["three"].version, models["small_cobra"].config().lm.n_layers)
assert {"three", "scenes"} <= set(benchmarks.names()) and {"small_cobra", "cobra"} <= set(models.names())
"""
    assert python(site, code).strip() == "3 8"


def test_the_command_line_takes_them(site: Path) -> None:
    code = "from deltaprune.cli import run; run('cost --model small_cobra --method once:keep=0.25 --json'.split())"
    (row,) = json.loads(python(site, code))
    assert (row["model"], row["method"], row["kept"]) == ("small", "once:keep=0.25", [182])


def test_a_broken_entry_is_told_when_it_is_asked_for_and_not_before(site: Path) -> None:
    code = """
from deltaprune.errors import UserError
from deltaprune.scores import registry
assert "last" in registry.names() and "gone" not in registry.names()
try:
    registry["gone"]
except UserError as error:
    print(error)
"""
    said = python(site, code)
    assert said.startswith("The score 'gone' comes from another package, which cannot be imported (AttributeError: ")
    assert said.endswith("): update that package or uninstall it.\n")
