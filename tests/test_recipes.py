"""CONTRIBUTING's recipes: one new file (and its own test beside the others) for each, and no edit elsewhere.

A copy of this tree gets an entry of every kind; the tests that walk the registries must pass on it as they stand.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OWN_TEST = """from deltaprune.{kind} import registry


def test_it_is_found() -> None:
    assert registry["{name}"]() == registry["{name}"]()
"""
NEW = {
    "src/deltaprune/scores/loudness.py": '''"""Loudness: the length of the residual row."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from deltaprune.scores import registry
from deltaprune.steps import Score
from deltaprune.rows import Rows
from deltaprune.trace import Trace


@registry.register("loudness")
@dataclass(frozen=True)
class Loudness(Score):
    """s_j = ||hidden_j||. Shape (T,), range [0, inf). Sees text: no. Source: a test."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"hidden"})

    @property
    def sees_text(self) -> bool:
        return False

    def __call__(self, tokens: Rows, trace: Trace) -> Float[Tensor, "T"]:
        return trace["hidden"].float().norm(dim=-1)
''',
    "tests/scores/test_loudness.py": OWN_TEST.format(kind="scores", name="loudness"),
    "src/deltaprune/methods/loud.py": '''"""Loud: one stage by loudness."""

from dataclasses import dataclass

from deltaprune.methods import registry
from deltaprune.scores.loudness import Loudness
from deltaprune.steps import Method, Shape, Stage


@registry.register("loud")
@dataclass(frozen=True)
class Loud(Method):
    """Keep the loudest tokens after one layer. Source: a test."""

    keep: float = 0.5

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        return (Stage(1, self.keep, Loudness()),)
''',
    "tests/methods/test_loud.py": OWN_TEST.format(kind="methods", name="loud"),
    "src/deltaprune/benchmarks/doors.py": '''"""Doors: the scenes under another name."""

from dataclasses import dataclass
from typing import ClassVar

from deltaprune.benchmarks import registry
from deltaprune.benchmarks.scenes import Scenes


@registry.register("doors")
@dataclass(frozen=True)
class Doors(Scenes):
    """A benchmark that draws its own pictures."""

    name: ClassVar[str] = "doors"
''',
    "src/deltaprune/models/short.py": '''"""Short: Cobra with fewer layers."""

from dataclasses import replace
from pathlib import Path

from deltaprune.models import Family
from deltaprune.models import registry
from deltaprune.mllm.network import MLLMConfig
from deltaprune.models.cobra import COBRA
from deltaprune.steps import Plan


class Short(Family):
    """A model without weights."""

    def config(self) -> MLLMConfig:
        return replace(COBRA, name="short", lm=replace(COBRA.lm, n_layers=8), plan=Plan(early=2, late=6))

    def recognises(self, path: Path) -> bool:
        return False

    def open(self, source, towers=None, tokenizer=None):
        raise NotImplementedError


registry.register("short")(Short())
''',
    "src/deltaprune/kernels/rms_norm/again.py": '''"""The reference once more."""

from dataclasses import replace

from deltaprune.kernels.rms_norm.reference import BACKEND as REFERENCE

BACKEND = replace(REFERENCE, name="again", priority=-100)
''',
    "src/deltaprune/cost/peers/nobody.py": '''"""A peer that is never there."""

from deltaprune.cost.peers import Peer, registry
from deltaprune.mllm.lm import MambaLM


@registry.register("nobody")
def nobody(lm: MambaLM) -> list[Peer]:
    """No peer."""
    return []
''',
}
WALKING = [  # the tests that go through a registry or a folder, quick ones
    *("contract", "scores", "methods", "kernels/test_backends.py", "kernels/test_rms_norm.py", "cost/test_peers.py"),
    *("benchmarks/test_official_mistakes.py", "evaluate/test_statistics.py", "calibrate/test_budget.py"),
    *(
        "test_rooms.py",
        "test_registry.py",
        "test_public_names.py",
        "test_waiting.py",
        "test_windows.py",
        "test_prefix.py",
    ),
    *("test_prefix.py", "models/test_refusals.py", "cli/test_mistakes.py"),
]


@pytest.mark.slow
def test_an_entry_of_every_kind_needs_no_edit_elsewhere(tmp_path: Path) -> None:
    for part in ("src", "tests", "runs", "training", "numbers", "examples", "docs"):
        shutil.copytree(ROOT / part, tmp_path / part)
    for file in ("README.md", "pyproject.toml", "CONTRIBUTING.md"):
        shutil.copy(ROOT / file, tmp_path)
    for name, code in NEW.items():
        assert not (tmp_path / name).exists()
        (tmp_path / name).write_text(code, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"tests/{name}" for name in WALKING)]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-5000:]
    listed = subprocess.run([*command, "--collect-only"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    for name in ("loudness", "loud", "doors", "short", "again"):
        assert f"[{name}" in listed.stdout or f"-{name}" in listed.stdout, f"{name} is not tested"
