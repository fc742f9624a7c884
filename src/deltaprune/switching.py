"""Switchable: what a model of either kind needs so that a method can be switched on for it."""

from contextlib import AbstractContextManager

from deltaprune.active import activate, active, switched
from deltaprune.methods import as_method
from deltaprune.steps import Method, Prunable


class Switchable:
    """The method that is active for an object, in the current thread or asyncio task only."""

    @property
    def method(self) -> Method | None:
        """The active method; None where there is none. Set it with `with method(model):`."""
        return active(self)

    @method.setter
    def method(self, method: Method | None) -> None:
        activate(self, method)

    def pruned_by(self: Prunable, method: Method | str | None) -> AbstractContextManager[None]:
        """A context in which `method` replaces the active one; None changes nothing."""
        return switched(self, None if method is None else as_method(method))
