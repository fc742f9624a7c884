"""A method on a model of transformers' own: hooks on its decoder layers, within the `with` alone.

    model = AutoModelForImageTextToText.from_pretrained(...)
    with dp.DTP(keep=0.5)(model) as pruned:
        model.generate(**processor(images=image, text=prompt, return_tensors="pt"))
    print([kept.counts for kept in pruned.kept])

Before a layer, the pruner's step on the rows that are live there; from a stage on, every layer gets the positions,
rotary tables and masks of the rows that are left. Everything else stays transformers' own.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.masking_utils import create_causal_mask

from deltaprune.errors import UserError
from deltaprune.inplace.call import Call
from deltaprune.inplace.inputs import Inputs
from deltaprune.inplace.probes import OUTPUT
from deltaprune.inplace.served import check_served
from deltaprune.inplace.target import Target
from deltaprune.inplace.writing import Passing, writing_hooks
from deltaprune.pruner import Pruner
from deltaprune.steps import Method, Step, passes_of

_HERE: ContextVar[tuple["Attached", ...]] = ContextVar("deltaprune_attached", default=())  # one for each model
_CALL: ContextVar["Call | None"] = ContextVar("deltaprune_call", default=None)


@contextmanager
def attached(model: Any, method: Method) -> Iterator[Target]:
    """The model with hooks that prune it by `method`, in this thread, or asyncio task, alone.

    Raises:
        UserError: a model, or a method on it, that cannot be pruned in place.
    """
    target = Target(model)
    if target.method is not None:  # `Method.__call__` says that methods do not nest
        yield target
        return
    steps = method.checked_steps(target.shape)
    check_runnable(target, steps)
    with ExitStack() as hooks:
        here = Attached(target, steps, hooks)
        token = _HERE.set((*_HERE.get(), here))
        hooks.callback(_HERE.reset, token)
        yield target


def check_runnable(target: Target, steps: tuple[Step, ...]) -> None:
    """A `UserError` where the installed transformers, or the model and its state, do not allow it."""
    if not {"cache", "layer_idx"} <= set(inspect.signature(create_causal_mask).parameters):
        raise UserError(f"Pruning in place needs transformers 5.24 or newer; {transformers.__version__} is installed.")
    attention = target.text.config._attn_implementation
    if "write" in passes_of(steps).values() and attention not in ("sdpa", "eager"):
        raise UserError(
            f"Layers that image rows only write to have masks of their own, which {attention!r} attention does not "
            'take: load the model with attn_implementation="sdpa".'
        )
    check_served(target.blocks, steps)
    devices = {str(device) for device in getattr(target.model, "hf_device_map", {}).values()}
    if len(devices) > 1:
        raise UserError(
            f"The model is spread over {', '.join(sorted(devices))}, where pruning in place was not tried: load it on "
            "one device."
        )
    modules = (target.model, target.text, *target.layers)
    if any(module._compiled_call_impl is not None for module in modules):
        raise UserError(
            "A compiled model cannot be pruned in place, since its rows change their number: do not compile it."
        )


def check_gradients(layers: Sequence[nn.Module]) -> None:
    """A `UserError` where the backward pass would run layers again, without the hooks."""
    runs_again = (layer.training and getattr(layer, "gradient_checkpointing", False) for layer in layers)
    if torch.is_grad_enabled() and any(runs_again):
        raise UserError(
            "Gradient checkpointing runs layers a second time, when rows are not pruned any more: call "
            "model.activation_checkpointing_disable() first."
        )


class Attached:
    """The hooks of one `with` block; they do nothing in a thread, or task, in which it is not on.

    Args:
        target: the model.
        steps: the method's.
        hooks: takes the hooks off when it is closed.
    """

    def __init__(self, target: Target, steps: tuple[Step, ...], hooks: ExitStack):
        self.target, self.steps = target, steps
        pruner = Pruner(target, steps)
        readers = set(pruner.reads.values())
        passes = passes_of(steps)
        handles = [
            target.model.register_forward_pre_hook(whole(self._begin), with_kwargs=True),
            target.model.register_forward_hook(whole(self._end), with_kwargs=True, always_call=True),
            target.text.register_forward_pre_hook(whole(self._take_over), with_kwargs=True),
        ]
        for l, layer in enumerate(target.layers):
            writes = passes.get(l) == "write" and target.blocks[l].sees != "none"
            handles.append(layer.register_forward_pre_hook(whole(self._entering(l)), with_kwargs=True))
            if l in passes:
                handles.append(layer.register_forward_hook(self._leaving))
            if l in readers or writes:
                handles.append(target.mixers[l].register_forward_pre_hook(whole(self._mixing(l)), with_kwargs=True))
            gate = target.blocks[l].gate
            if l in readers and gate is not None and pruner.needs(l) >= OUTPUT:
                handles.append(target.mixers[l].get_submodule(gate).register_forward_pre_hook(self._gating(l)))
            if writes:
                handles += self._writing(l)
        for handle in handles:
            hooks.callback(handle.remove)

    def _begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self in _HERE.get():
            _CALL.set(None)
            call = Call(self.target, self.steps, Inputs.of(model, self.target.family, args, kwargs))
            if call.pruner is not None:
                check_gradients(self.target.layers)
            _CALL.set(call)

    def _end(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        call = self._call()
        if call is not None:
            _CALL.set(None)
            if output is not None:  # None after an exception
                call.finish()

    def _take_over(
        self, text: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        call = self._call()
        if call is None and self in _HERE.get():
            raise UserError(
                f"The {type(text).__name__} was called by itself, where nothing tells its visual tokens: call the "
                f"whole {type(self.target.model).__name__}, or leave the method's block."
            )
        if call is None or call.pruner is None:
            return None
        kwargs = dict(kwargs)
        call.added = self.target.family.take_over(kwargs)
        return args, kwargs

    def _entering(self, l: int) -> Any:
        def hook(
            layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            call = self._call()
            return None if call is None else with_hidden(args, kwargs, lambda x, handed: call.enter(l, x, handed))

        return hook

    def _leaving(self, layer: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        call = self._call()
        return None if call is None else call.leave(output)

    def _mixing(self, l: int) -> Any:
        def hook(
            mixer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            call = self._call()
            return None if call is None else with_hidden(args, kwargs, lambda x, handed: call.mix(l, x, handed))

        return hook

    def _gating(self, l: int) -> Any:
        def hook(gate: nn.Module, args: tuple[Any, ...]) -> None:
            call = self._call()
            if call is not None:
                call.overhear(l, args[0])

        return hook

    def _writing(self, l: int) -> list[RemovableHandle]:
        def passing() -> Passing | None:
            call = self._call()
            return None if call is None else call.writing(l)

        return writing_hooks(self.target.norm_of(l), self.target.mixers[l], self.target.blocks[l], passing)

    def _call(self) -> Call | None:
        call = _CALL.get()
        return call if call is not None and call.target is self.target else None


def whole(hook: Callable[..., Any]) -> Callable[..., Any]:
    """The hook, which does nothing where torch calls it without the keyword arguments.

    That happens when another thread takes the hook off while this one is in the module: torch still calls the hooks
    that it found at the beginning, but no longer knows what they take. It is the other thread's hook: nothing is lost.
    """
    taken = len(inspect.signature(hook).parameters)
    return lambda *given: hook(*given) if len(given) == taken else None


def with_hidden(
    args: tuple[Any, ...], kwargs: dict[str, Any], change: Callable[[Tensor, dict[str, Any]], Tensor]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A module's arguments, its hidden states changed, which may be the first or named; the others in place."""
    handed = dict(kwargs)
    if args:
        return (change(args[0], handed), *args[1:]), handed
    handed["hidden_states"] = change(handed.pop("hidden_states"), handed)
    return args, handed
