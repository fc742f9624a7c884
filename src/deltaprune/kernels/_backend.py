"""How an op finds the code that runs it: one frozen record per backend file, one function that chooses.

The folder of an op holds one file per backend, each with a module-level `BACKEND`; a new file is a new backend. A file
whose optional requirement (a GPU toolchain) is missing must import all the same and say so through `probe`; a file that
cannot be imported is reported with a warning, once.
"""

import contextlib
import functools
import importlib
import logging
import pkgutil
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch

from deltaprune.errors import UserError, did_you_mean

_LOG = logging.getLogger("deltaprune.kernels")
_FORCED: ContextVar[dict[str, str] | None] = ContextVar("deltaprune_kernels_forced", default=None)
_LOGGED: set[tuple[str, str, str]] = set()


@dataclass(frozen=True)
class Backend:
    """One way to run one op.

    Attributes:
        op, name: e.g. `"selective_scan"`, `"numba"`; the name is the file's.
        devices: the device types it runs on, `"*"` for any.
        carries_state: whether it can start from an initial state.
        probe: None when usable here, else half a sentence that says why not. Asked at every choice: keep it cheap.
        fn: the op itself; takes the arguments of the op's public function without `backend`.
        dtypes: the types of the activations it takes, None for any.
        gradients: whether autograd can follow it.
        priority: among the usable ones the highest is taken.
        capturable: whether a CUDA graph can capture it, because it never reads a value back from the device.
    """

    op: str
    name: str
    devices: tuple[str, ...]
    carries_state: bool
    probe: Callable[[], str | None]
    fn: Callable[..., Any]
    dtypes: tuple[torch.dtype, ...] | None = None
    gradients: bool = False
    priority: int = 0
    capturable: bool = False

    def refuses(self, device: str, carries_state: bool, dtype: torch.dtype | None, gradients: bool) -> str | None:
        """Why it cannot run this call, as half a sentence, or None."""
        if "*" not in self.devices and device not in self.devices:
            return f"it runs on {' and '.join(self.devices)}, and the tensors are on {device}"
        if carries_state and not self.carries_state:
            return "it cannot start from an initial state"
        if dtype is not None and self.dtypes is not None and dtype not in self.dtypes:
            return f"it takes {' and '.join(map(str, self.dtypes))}, and the tensors are {dtype}"
        if gradients and not self.gradients:
            return "it computes no gradients, and one is asked for; use torch.no_grad() or the reference"
        return self.probe()


@contextlib.contextmanager
def use(every: str | None = None, /, **by_op: str) -> Iterator[None]:
    """Within it, `use("numba")` forces every op that has it, `use(selective_scan="reference")` one.

    `backend=` still overrides it. It holds in this thread and its tasks only, and is undone on exit.
    """
    ops = [
        info.name for info in pkgutil.iter_modules(importlib.import_module("deltaprune.kernels").__path__) if info.ispkg
    ]
    for op in by_op:
        if op not in ops:
            raise UserError(f"`use({op}=...)`: there is no op {op!r}: {did_you_mean(op, ops)}.")
    having = {op: names(f"deltaprune.kernels.{op}") for op in ops} if every is not None else {}
    chosen = {op: every for op in having if every in having[op]}
    if every is not None and not chosen:
        known = {name for some in having.values() for name in some}
        raise UserError(f"`use({every!r})`: no op has that backend: {did_you_mean(every, known)}.")
    token = _FORCED.set({**(_FORCED.get() or {}), **chosen, **by_op})
    try:
        yield
    finally:
        _FORCED.reset(token)


def forced() -> tuple[tuple[str, str], ...]:
    """What `use` says here, as pairs of op and backend."""
    return tuple(sorted((_FORCED.get() or {}).items()))


def select(
    package: str,
    device: torch.device | str,
    name: str | None = None,
    carries_state: bool = False,
    dtype: torch.dtype | None = None,
    gradients: bool = False,
) -> Backend:
    """The backend that runs a call.

    Args:
        package: the op's folder, e.g. `"deltaprune.kernels.selective_scan"`.
        device: where the tensors are.
        name: the one asked for; raises `UserError` when it cannot run. None: what `use` says, else the best usable.
        carries_state: whether the call has an initial state.
        dtype: the type of the activations.
        gradients: whether autograd must be able to follow.
    """
    op, kind = package.rpartition(".")[2], torch.device(device).type
    name = name if name is not None else (_FORCED.get() or {}).get(op)
    if name is not None:
        backend = _named(package, op, name)
        why = backend.refuses(kind, carries_state, dtype, gradients)
        if why is not None:
            raise UserError(f"The {name!r} backend of {op} cannot run this: {why}.")
        return backend
    refusals = []
    for backend in _ranked(package):
        why = backend.refuses(kind, carries_state, dtype, gradients)
        if why is None:
            _log_choice(backend, kind, refusals)
            return backend
        refusals.append(f"{backend.name}: {why}")
    raise UserError(f"No backend of {op} can run on {kind}: {'; '.join(refusals) or 'there is none'}.")


def names(package: str) -> list[str]:
    """The backends that an op's folder holds, usable or not; imports none of them."""
    path = importlib.import_module(package).__path__
    return sorted(info.name for info in pkgutil.iter_modules(path) if not info.name.startswith("_"))


def _named(package: str, op: str, name: str) -> Backend:
    known = names(package)
    if name not in known:
        raise UserError(f"There is no backend {name!r} of {op}: {did_you_mean(name, known)}.")
    backend = _load(package, name)
    if isinstance(backend, str):
        raise UserError(f"The {name!r} backend of {op} cannot be imported: {backend}.")
    return backend


@functools.cache
def _ranked(package: str) -> tuple[Backend, ...]:
    found = (_load(package, name) for name in names(package))
    return tuple(sorted((b for b in found if isinstance(b, Backend)), key=lambda b: -b.priority))


@functools.cache
def _load(package: str, name: str) -> Backend | str:
    """A file's record, or why it cannot be imported."""
    try:
        return importlib.import_module(f"{package}.{name}").BACKEND
    except (ImportError, OSError) as error:
        _LOG.warning("The %r backend of %s cannot be imported: %s", name, package.rpartition(".")[2], error)
        return f"{type(error).__name__}: {error}"


def _log_choice(backend: Backend, device: str, refusals: list[str]) -> None:
    """Log a choice once; as a warning if a faster backend was refused only because a gradient is needed."""
    key = (backend.op, device, backend.name)
    if key in _LOGGED:
        return
    _LOGGED.add(key)
    level = logging.WARNING if any("gradient" in why for why in refusals) else logging.INFO
    passed = f" (not {'; not '.join(refusals)})" if refusals else ""
    _LOG.log(level, "%s on %s runs on the %r backend%s", backend.op, device, backend.name, passed)
