"""`import deltaprune` costs nothing, and its names are there when they are asked for."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import deltaprune
from deltaprune.methods import registry as methods
from deltaprune.scores import registry as scores

STUB = ast.parse(Path(deltaprune.__file__).with_suffix(".pyi").read_text())
PUBLIC = {alias.name: node for node in STUB.body if isinstance(node, ast.ImportFrom) for alias in node.names}


def test_every_name_of_the_stub_is_there() -> None:
    assert set(deltaprune.__all__) == set(PUBLIC)
    for name, node in PUBLIC.items():
        assert node.level == 1
        value = getattr(deltaprune, name)
        assert value is getattr(sys.modules[f"deltaprune.{node.module}"], name)
        assert name in dir(deltaprune)


def test_a_checker_takes_each_for_public() -> None:
    """`from .x import A as A`: without the second A a stub keeps the name to itself."""
    assert all(alias.asname == alias.name for node in PUBLIC.values() for alias in node.names)


@pytest.mark.parametrize("registry", [methods, scores], ids=["methods", "scores"])
def test_every_registered_score_and_method_of_ours_is_public(registry) -> None:
    ours = [registry[name] for name in registry.names() if registry[name].__module__.startswith("deltaprune.")]
    assert len(ours) > 10
    assert all(getattr(deltaprune, entry.__name__) is entry for entry in ours)


def test_a_score_that_no_stub_lists_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(deltaprune, "Uniqueness", raising=False)
    monkeypatch.setattr(deltaprune, "_listed", unlisted)
    assert deltaprune.Uniqueness is scores["uniqueness"]


def unlisted(name: str) -> None:
    raise AttributeError(name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'nope'"):
        deltaprune.nope  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_importing_pulls_in_nothing_heavy() -> None:
    code = "import sys, deltaprune; print({'torch', 'transformers', 'numba', 'numpy'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
