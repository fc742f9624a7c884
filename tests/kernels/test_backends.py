"""A new backend is tested by lying in its folder: one that gives zeros is found, and fails, for every op."""

import importlib
import pkgutil
import sys
from pathlib import Path

import pytest
import test_causal_conv1d
import test_hidden_attention
import test_layer_step
import test_matvec
import test_residual_add
import test_rms_norm
import test_scan_state
import test_selective_scan
import torch
from backends import APART, backends, package

import deltaprune.kernels
from deltaprune.kernels import _backend as machinery

FIRST = {  # of each op: its first test, in one case
    "causal_conv1d": lambda name: test_causal_conv1d.test_lengths(name, 4, 63, False),
    "hidden_attention": lambda name: test_hidden_attention.test_lengths(name, 63),
    "layer_step": lambda name: test_layer_step.test_equations(name, {}, 3, torch.float32),
    "matvec": lambda name: test_matvec.test_products(name, torch.bfloat16, 2, (3, 17)),
    "residual_add": lambda name: test_residual_add.test_sums(name, (3, 17), torch.float32),
    "rms_norm": lambda name: test_rms_norm.test_shapes(name, (3, 2), False),
    "scan_state": lambda name: test_scan_state.test_lengths(name, 63),
    "selective_scan": lambda name: test_selective_scan.test_lengths(name, 63),
}
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


def test_every_op_is_here() -> None:
    assert sorted(FIRST) == sorted(OPS)


@pytest.mark.parametrize("op", OPS)
def test_a_backend_of_zeros_is_found_and_fails(op: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FIRST[op]("reference")
    name = f"zeros_{op}"
    (tmp_path / f"{name}.py").write_text(ZEROS.format(package=package(op), name=name))
    machinery._ranked(package(op))  # what is chosen without a name does not change
    folder = importlib.import_module(package(op))
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])
    assert name in [case.id for case in backends(op)]
    try:
        with pytest.raises(AssertionError):
            FIRST[op](name)
    finally:
        sys.modules.pop(f"{package(op)}.{name}", None)


@pytest.mark.parametrize(("op", "name"), APART, ids=str)
def test_what_is_tested_apart_is(op: str, name: str) -> None:
    tests = (Path(__file__).parent / APART[op, name]).read_text(encoding="utf-8")
    assert f'backend="{name}"' in tests
    assert name in machinery.names(package(op))
