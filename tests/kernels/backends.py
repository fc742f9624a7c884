"""The backends under test: whatever the folder of an op holds, so that a new file is tested without an edit here."""

import importlib

import pytest
import torch
from torch import Tensor

from deltaprune.kernels import Backend
from deltaprune.kernels._backend import names

# Triton's interpreter is slow: these are held against the same truth with fewer rows and channels, in their own files.
APART = {
    ("selective_scan", "triton"): "test_triton_scan.py",
    ("scan_state", "triton"): "test_triton_state.py",
    ("causal_conv1d", "triton"): "test_triton_conv.py",
}


def package(op: str) -> str:
    return f"deltaprune.kernels.{op}"


def record(op: str, name: str) -> Backend:
    """A backend's record; one that cannot be imported fails here, and its tests with it."""
    return importlib.import_module(f"{package(op)}.{name}").BACKEND


def device_of(op: str, name: str) -> str:
    """Where a backend is tested: on a GPU if it is made for one and there is one."""
    return "cuda" if "cuda" in record(op, name).devices and torch.cuda.is_available() else "cpu"


def takes(op: str, name: str, dtype: torch.dtype) -> bool:
    """The backend's record says that it takes activations of this type."""
    dtypes = record(op, name).dtypes
    return dtypes is None or dtype in dtypes


def backends(op: str) -> list:
    """The names of an op's backends, to parametrise over; one that cannot run here is skipped with its reason."""
    return [
        pytest.param(name, marks=_marks(op, name), id=name) for name in names(package(op)) if (op, name) not in APART
    ]


def typed_backends(op: str, *dtypes: torch.dtype) -> list:
    """Pairs of a name and each of these types that the backend takes."""
    pairs = [(name, dtype) for name in names(package(op)) if (op, name) not in APART for dtype in dtypes]
    return [
        pytest.param(name, dtype, marks=_marks(op, name), id=f"{name}-{dtype}")
        for name, dtype in pairs
        if takes(op, name, dtype)
    ]


def _marks(op: str, name: str) -> list[pytest.MarkDecorator]:
    why = record(op, name).refuses(device_of(op, name), False, None, False)
    return [] if why is None else [pytest.mark.skip(reason=f"{op}'s {name} backend: {why}")]


def moved(made: dict, device: str) -> dict:
    """A call's tensors on a device."""
    return {name: x.to(device) if isinstance(x, Tensor) else x for name, x in made.items()}
