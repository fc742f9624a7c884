"""The compiled kernels of mamba_ssm and causal_conv1d: whether they ran."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec

# Package -> its extension module and the function that a prefill ends in (mamba_ssm/ops/selective_scan_interface.py and
# causal_conv1d/cpp_functions.py call them as attributes of the module).
KERNELS = {"mamba_ssm": ("selective_scan_cuda", "fwd"), "causal_conv1d": ("causal_conv1d_cuda", "causal_conv1d_fwd")}


def installed(package: str) -> bool:
    """Whether a package can be found; it may yet fail to import."""
    return find_spec(package) is not None


def ran_in(run: Callable[[], object]) -> list[str]:
    """The packages whose compiled kernel was called while `run` ran: an import proves nothing."""
    ran: set[str] = set()
    with contextlib.ExitStack() as stack:
        for package in KERNELS:
            stack.enter_context(_watched(package, ran))
        run()
    return [package for package in KERNELS if package in ran]


@contextlib.contextmanager
def _watched(package: str, ran: set[str]) -> Iterator[None]:
    """Note a call of the package's kernel in `ran`."""
    name, function = KERNELS[package]
    module = sys.modules.get(name)
    if module is None:  # it is not loaded, so nothing can call it
        yield
        return
    kernel = getattr(module, function)

    def noted(*args: object, **more: object) -> object:
        ran.add(package)
        return kernel(*args, **more)

    setattr(module, function, noted)
    try:
        yield
    finally:
        setattr(module, function, kernel)
