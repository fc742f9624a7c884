"""Which method is active for a model, in the current thread and asyncio task only.

One context variable holds the methods of all models. An asyncio task inherits the methods that were active where it was
created; a new thread starts with none.
"""

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, runtime_checkable
from weakref import ref

from deltaprune.errors import UserError
from deltaprune.plan import Shape

_ON: ContextVar[Mapping[ref[Any], Any]] = ContextVar("deltaprune_methods", default=MappingProxyType({}))

Switch = TypeVar("Switch")


@runtime_checkable
class Prunable(Protocol):
    """Anything that a method can be activated for."""

    method: Any

    @property
    def shape(self) -> Shape: ...


def active(model: object) -> Any:
    """The method that is active for a model in this context, or None."""
    return _ON.get().get(ref(model))


def activate(model: object, method: object) -> None:
    """Activate `method` for a model in this context; None deactivates any."""
    others = {held: on for held, on in _ON.get().items() if held() is not None and held() is not model}
    _ON.set(others if method is None else {**others, ref(model): method})


@contextmanager
def switched(model: Prunable, method: object) -> Iterator[None]:
    """Context manager: within it `method` replaces the active one; None changes nothing."""
    before = model.method
    if method is not None:
        model.method = method
    try:
        yield
    finally:
        if method is not None:
            model.method = before


def opened(model: Any, method: object) -> AbstractContextManager[Prunable]:
    """The object that a method is activated for: one of our models as it is, a transformers model with hooks installed.

    Raises:
        UserError: no method can be activated for this object.
    """
    transformers = sys.modules.get("transformers")  # if it was never imported, the object cannot be one of its models
    if isinstance(model, Prunable) or transformers is None or not isinstance(model, transformers.PreTrainedModel):
        check_prunable(model, method)
        return nullcontext(model)
    # Imported by name, as registries do: `inplace` is on a higher floor.
    return importlib.import_module("deltaprune.inplace.attach").attached(model, method)


def check_prunable(model: Any, method: object) -> None:
    """Check that a method can be activated for this object, else a `UserError` that says for which ones it can."""
    if isinstance(model, Prunable) and not isinstance(model, type):
        return
    given = f"the class {model.__name__}" if isinstance(model, type) else f"an object of type {type(model).__name__}"
    said = f"{type(method).__name__} was given {given}"
    if isinstance(model, tuple):
        raise UserError(f"{said}: dp.load gives a model and its processor, model, processor = dp.load(...).")
    for name in ("model", "vlm"):
        if isinstance(getattr(model, name, None), Prunable):
            raise UserError(f"{said}, which holds the model that can be pruned: give it as its attribute .{name}.")
    raise UserError(
        f"{said}: it prunes a model that dp.load gave, or that transformers loaded: one of its own vision-language "
        "models, or a deltaprune folder after `import deltaprune.hf`; of a pipeline over one, its .model."
    )
