"""A new backend is tested by lying in its folder: one that gives zeros is found, and fails, for every op."""

import importlib
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backends import APART, backends, package

import deltaprune.kernels
from deltaprune.kernels import _backend as machinery

ZEROS = """
from dataclasses import is_dataclass, replace

import torch

from {package}.reference import BACKEND as TRUE


def zero(made):
    if isinstance(made, torch.Tensor):
        return torch.zeros_like(made)
    if isinstance(made, tuple):
        return tuple(zero(each) for each in made)
    return type(made)(**{{name: zero(each) for name, each in vars(made).items()}}) if is_dataclass(made) else made


BACKEND = replace(TRUE, name="{name}", fn=lambda *args, **options: zero(TRUE.fn(*args, **options)))
"""
OPS = [info.name for info in pkgutil.iter_modules(deltaprune.kernels.__path__) if info.ispkg]


def first_test(op: str) -> Callable[[str], None]:
    """The first test of `test_<op>.py` that takes a backend, in one case, the middle one of each mark."""
    module = importlib.import_module(f"test_{op}")
    test = next(each for name, each in vars(module).items() if name.startswith("test_") and "backend" in case(each))
    return lambda backend: test(**{**case(test), "backend": backend})


def case(test: Any) -> dict[str, object]:
    """The arguments of a parametrised test in the middle case of each of its marks."""
    found = {}
    for mark in getattr(test, "pytestmark", []):
        if mark.name == "parametrize":
            names, cases = mark.args[0], mark.args[1]
            names = [name.strip() for name in names.split(",")] if isinstance(names, str) else names
            middle = cases[len(cases) // 2]
            values = middle.values if isinstance(middle, type(pytest.param())) else middle
            found |= zip(names, values if len(names) > 1 or values is not middle else (values,), strict=True)
    return found


@pytest.mark.parametrize("op", OPS)
def test_a_backend_of_zeros_is_found_and_fails(op: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = first_test(op)
    check("reference")
    name = f"zeros_{op}"
    (tmp_path / f"{name}.py").write_text(ZEROS.format(package=package(op), name=name))
    machinery._ranked(package(op))  # what is chosen without a name does not change
    folder = importlib.import_module(package(op))
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])
    assert name in [case.id for case in backends(op)]
    try:
        with pytest.raises(AssertionError):
            check(name)
    finally:
        sys.modules.pop(f"{package(op)}.{name}", None)


@pytest.mark.parametrize(("op", "name"), APART, ids=str)
def test_what_is_tested_apart_is(op: str, name: str) -> None:
    tests = (Path(__file__).parent / APART[op, name]).read_text(encoding="utf-8")
    assert f'backend="{name}"' in tests
    assert name in machinery.names(package(op))
