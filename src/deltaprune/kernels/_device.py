"""Launching on the right GPU, and in the types that the weights have."""

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Function = TypeVar("Function", bound=Callable[..., Any])


def on_device_of(x: Tensor) -> contextlib.AbstractContextManager:
    """Launches within it go to the GPU that holds `x`, whichever is current."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()


def without_autocast(function: Function) -> Function:
    """Decorator: torch.autocast has no effect inside; the weights' types alone decide the types of the computation.

    For the engine's public functions, whose first argument is the module that they run, or has its `device`.
    """
    name = next(iter(inspect.signature(function).parameters))

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        model = args[0] if args else kwargs[name]
        kind = (next(model.parameters()) if isinstance(model, nn.Module) else model).device.type
        if kind == "meta" or not torch.is_autocast_enabled(kind):
            return function(*args, **kwargs)
        with torch.autocast(kind, enabled=False):
            return function(*args, **kwargs)

    return run  # pyright: ignore[reportReturnType]
