"""The decode step as one CUDA graph.

A step of mamba-2.8b reads weights for 1.2 ms and launches about 260 kernels, 800 for many samples: one by one, the
launches take longer than the reading. The state never grows, so one captured step per batch size serves every position.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from deltaprune.errors import UserError
from deltaprune.kernels import forced, on_device_of, select
from deltaprune.protocols import Model, State
from deltaprune.walk import decode, prepared

MOST_KEPT = 8  # idle graphs per model: each holds the states of its rows
_LOG = logging.getLogger("deltaprune.kernels")
_LOCK, _CAPTURING = threading.Lock(), threading.Lock()
_IDLE: "WeakKeyDictionary[Model, list[GraphedStep]]" = WeakKeyDictionary()

_TREES: "WeakKeyDictionary[Model, _Tree]" = WeakKeyDictionary()

Result = TypeVar("Result")
Step = Callable[[Int[Tensor, "B"]], Float[Tensor, "B V"]]


@contextlib.contextmanager
def stepping(model: Model, states: list[State], graphed: bool | None = None) -> Iterator[Step]:
    """A function `ids (B,) -> logits (B, V)` that decodes one token of every row, going on from `states`.

    The logits are valid until its next call. The caller's states are not written to.

    Args:
        model: the LM.
        states: one per layer.
        graphed: replay a CUDA graph; None does so wherever it can be done.

    Raises:
        UserError: a graph is asked for and cannot be used.
    """
    why = _why_not(model, states)
    if graphed and why is not None:
        raise UserError(f"The decode step cannot be a CUDA graph: {why}; leave `graphed` unset.")
    if graphed is False or why is not None:
        _LOG.debug("decoding without a CUDA graph: %s", why or "it is forbidden")
        yield _eager(model, states)
        return
    step = _taken(model, len(next(iter(states[0].tensors().values()))))
    try:
        step.load(states)
        yield step
    finally:
        with _LOCK:
            kept = _IDLE.setdefault(model, [])
            kept.append(step)
            del kept[:-MOST_KEPT]


class GraphedStep:
    """One captured step of `batch` rows: ids and states in buffers that the graph reads, logits in one it writes.

    Two callers at once need two of them. After the capture it holds no reference to the model.
    """

    def __init__(self, model: Model, batch: int):
        self.key = _key(model, batch)
        self.ids = torch.zeros(batch, dtype=torch.long, device=model.device)
        self.states = [block.empty_state(batch) for block in model.blocks]

        def run() -> Tensor:
            logits, new = decode(model, self.ids, self.states, in_place=True)
            self.load(new)
            return logits

        with torch.no_grad(), on_device_of(self.ids):
            self.replay, self.logits = _capture(run)

    def load(self, states: list[State]) -> None:
        """Copy states into the graph's own, all layers at once, but for those that are its own."""
        pairs = [
            (mine, given.tensors()[name])
            for own, given in zip(self.states, states, strict=True)
            for name, mine in own.tensors().items()
        ]
        for alike in _by_type([pair for pair in pairs if pair[0] is not pair[1]]):
            into, source = zip(*alike, strict=True)
            torch._foreach_copy_(into, source)  # pyright: ignore[reportPrivateImportUsage]

    def __call__(self, ids: Int[Tensor, "B"]) -> Float[Tensor, "B V"]:
        with on_device_of(self.ids):
            self.ids.copy_(ids)
            self.replay()
        return self.logits


def _capture(
    run: Callable[[], Result], pool: Any = None, stream: torch.cuda.Stream | None = None
) -> tuple[Callable[[], None], Result]:
    """A function that repeats on the GPU what `run` does, and what `run` returned, whose tensors it fills.

    Before the capture the kernels are compiled and the libraries are opened, which a graph cannot hold. One capture at
    a time; what other threads do on the GPU meanwhile is no part of it and does not break it. On a stream made here:
    torch's own for captures belongs to the GPU that captured first. Graphs that share a `stream` share its matrix
    products' workspace, as those that share a `pool` share their memory: they must never run at the same time.
    """
    here, side = torch.cuda.current_stream(), stream or torch.cuda.Stream()
    side.wait_stream(here)
    with torch.cuda.stream(side):
        for _ in range(2):
            run()
    here.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with (
        _CAPTURING,
        torch.cuda.stream(here),  # torch stays on the side stream after a capture that failed
        torch.cuda.graph(graph, pool, side, capture_error_mode="thread_local"),
    ):
        result = run()
    return graph.replay, result


def _by_type(pairs: list[tuple[Tensor, Tensor]]) -> list[list[tuple[Tensor, Tensor]]]:
    """The pairs in groups of one type each."""
    groups: dict[torch.dtype, list[tuple[Tensor, Tensor]]] = {}
    for pair in pairs:
        groups.setdefault(pair[0].dtype, []).append(pair)
    return list(groups.values())


def _eager(model: Model, states: list[State]) -> Step:
    """The same without a graph. From the second token on the states are its own, and are written over."""
    states, decoded, own = list(states), prepared(model), False

    @torch.no_grad()
    def step(ids: Tensor) -> Tensor:
        nonlocal own
        logits, states[:] = decoded(ids, states, own)
        own = True
        return logits

    return step


def _taken(model: Model, batch: int) -> GraphedStep:
    """An idle graph of this batch size, else a new one; those captured before the weights changed are dropped."""
    key = _key(model, batch)
    with _LOCK:
        kept = _IDLE.setdefault(model, [])
        kept[:] = [step for step in kept if step.key[1] == key[1]]
        found = next((step for step in kept if step.key == key), None)
        if found is not None:
            kept.remove(found)
            return found
    return GraphedStep(model, batch)


def _key(model: Model, batch: int) -> tuple[object, ...]:
    """What a captured graph depends on: the batch, the addresses of the weights, and the kernels.

    It is computed for every answer: `model.parameters()` would take as long as a decoded token on a GPU.
    """
    tree = _TREES.get(model)
    if tree is None or any(held.get(name) is not child for held, name, child in tree.children):
        tree = _TREES[model] = _Tree.of(model)
    places = [(w.data_ptr(), w.dtype) for held in tree.weights for w in held.values() if w is not None]
    return batch, hash(tuple(places)), forced()


class _Tree(NamedTuple):
    """A model's modules as they were when it was walked; their weights are looked up anew each time."""

    children: list[tuple[dict[str, nn.Module | None], str, nn.Module]]
    weights: list[dict[str, nn.Parameter | None] | dict[str, Tensor | None]]

    @classmethod
    def of(cls, model: Model) -> "_Tree":
        """Every module's children, and what it holds itself."""
        modules = list(cast(nn.Module, model).modules())
        children = [(m._modules, name, child) for m in modules for name, child in m._modules.items() if child]
        return cls(children, [held for m in modules for held in (m._parameters, m._buffers) if held])


def _why_not(model: Model, states: list[State]) -> str | None:
    """Half a sentence, or None."""
    ops = ("layer_step", "causal_conv1d", "selective_scan", "rms_norm")
    return _uncapturable(ops, model.device, model.dtype)


def _uncapturable(ops: tuple[str, ...], device: torch.device, dtype: torch.dtype) -> str | None:
    """Why a graph cannot hold these ops as they would run now; half a sentence, or None."""
    if device.type != "cuda":
        return f"the model is on {device.type}"
    for op in ops:
        chosen = select(f"deltaprune.kernels.{op}", device, carries_state=True, dtype=dtype)
        if not chosen.capturable:
            return f"the {chosen.name!r} backend of {op} asks the device for values"
    return None
