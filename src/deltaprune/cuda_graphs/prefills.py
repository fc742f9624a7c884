"""Prefills that replay CUDA graphs, one per shape of their inputs.

A GPU runs a short prefill (rows are pruned, or the image was run before) in less time than the host takes to launch its
kernels. The same lengths recur often, so shapes are exact, not padded: the first time, a shape is run without a graph,
the second time it is captured, and from then on it is replayed.
"""

import logging
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from deltaprune.cuda_graphs.captured import Buffers, Captured, flatten
from deltaprune.cuda_graphs.step import _key, _uncapturable
from deltaprune.errors import UserError, in_words
from deltaprune.kernels import on_device_of
from deltaprune.protocols import Model

MOST_KEPT, MOST_SEEN = 64, 256  # graphs per model, and shapes that are remembered
WARM_UP = 2  # calls after which a shape is only replayed
_LOG = logging.getLogger("deltaprune.kernels")
_LOCK = threading.Lock()
_GRAPHS: "WeakKeyDictionary[Model, _Graphs]" = WeakKeyDictionary()

Result = TypeVar("Result")


def run_or_replay(
    model: Model,
    run: Callable[..., Result],
    inputs: tuple[object, ...],
    fixed: Hashable,
    graphed: bool | None = None,
    refused: str | None = None,
) -> tuple[Result, bool]:
    """`run(*inputs)`, and whether a CUDA graph was replayed for it. Later replays do not change the result.

    Args:
        model: what `run` runs. Its graphs live as long as it does, and are captured again when its weights have moved.
        run: takes and returns tensors in nested tuples and dataclasses, beside values that the host knows.
        inputs: of `run`, on the model's device.
        fixed: what else `run` depends on.
        graphed: replay a graph, at once; None does so wherever it can be done, for a shape that has come before.
        refused: half a sentence why there can be no graph, if the caller knows one.

    Raises:
        UserError: a graph is asked for and cannot be used.
    """
    why = refused or _why_not(model, fixed)
    if graphed and why is not None:
        raise _refusal(why)
    if graphed is False or why is not None:
        return run(*inputs), False
    with _LOCK:
        graphs = _GRAPHS.setdefault(model, _Graphs())
    tensors: list[Tensor] = []
    layout = flatten(inputs, tensors)
    _, weights, kernels = _key(model, 0)
    key = (fixed, layout, kernels)
    with graphs.lock, on_device_of(tensors[0]), torch.inference_mode(False), torch.no_grad():
        graph = graphs.find(key, weights)
        if graph is None and (graphed or graphs.seen_before(key)):
            graph = graphs.capture(key, run, tensors)
        if graph is not None:
            return graphs.replay(graph, tensors), True
    if graphed:
        raise _refusal(graphs.failed[fixed])
    return run(*inputs), False


class _Graphs:
    """The graphs of one model, in order of last use. They share their memory, so one runs at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.kept: dict[Hashable, Captured] = {}
        self.seen: dict[Hashable, None] = {}
        self.failed: dict[Hashable, str] = {}
        self.weights: object = None
        self.buffers = Buffers(), Buffers()
        self.pool: Any = None
        self.stream: torch.cuda.Stream | None = None
        self.done: torch.cuda.Event | None = None  # of the last replay, on whichever stream it was

    def find(self, key: Hashable, weights: object) -> Captured | None:
        """The graph of a shape; those captured over other weights are dropped."""
        if weights != self.weights:
            self._drop(list(self.kept))
            self.weights, self.stream = weights, None  # another GPU has other streams
        graph = self.kept.pop(key, None)
        return None if graph is None else self.kept.setdefault(key, graph)

    def seen_before(self, key: Hashable) -> bool:
        """Whether a shape has occurred before; it is remembered."""
        if key in self.seen:
            return True
        self.seen[key] = None
        if len(self.seen) > MOST_SEEN:
            del self.seen[next(iter(self.seen))]
        return False

    def capture(self, key: tuple[Any, ...], run: Callable[..., object], tensors: list[Tensor]) -> Captured | None:
        """A new graph; None, logged once, if it cannot be captured with these fixed values."""
        fixed, layout, _ = key
        if fixed in self.failed:
            return None
        pool = self.pool if self.kept else torch.cuda.graph_pool_handle()  # torch frees one that no graph is left in
        self.stream = self.stream or torch.cuda.Stream()
        self._wait()
        try:
            graph = Captured(run, layout, tensors, (*self.buffers, pool, self.stream))
        except RuntimeError as error:
            if tensors[0].is_cuda:
                torch.cuda.synchronize()  # its trial may still write to the buffers
            self.failed[fixed] = in_words(error)
            _LOG.warning("The prefill runs without CUDA graphs under %r: %s", fixed, self.failed[fixed])
            return None
        self.pool, self.kept[key] = pool, graph
        self._drop(list(self.kept)[:-MOST_KEPT])
        return graph

    def replay(self, graph: Captured, tensors: list[Tensor]) -> Any:
        """Replay a graph on these inputs, after the last replay has ended."""
        stream = torch.cuda.current_stream() if tensors[0].is_cuda else None
        if stream is not None and self.done is not None:
            stream.wait_event(self.done)
        try:
            return graph(tensors)
        finally:
            if stream is not None:
                self.done = torch.cuda.Event()
                self.done.record(stream)

    def _drop(self, keys: list[Hashable]) -> None:
        """Forget some graphs, once the GPU no longer needs what they hold."""
        if keys:
            self._wait()
        for key in keys:
            del self.kept[key]
            self.seen.pop(key, None)

    def _wait(self) -> None:
        """Wait for the last replay."""
        if self.done is not None:
            self.done.synchronize()


def _refusal(why: str) -> UserError:
    return UserError(f"The prefill cannot be a CUDA graph: {why}; leave `graphed` unset.")


def _why_not(model: Model, fixed: Hashable) -> str | None:
    """Half a sentence, or None."""
    why = _uncapturable(("causal_conv1d", "selective_scan", "scan_state", "rms_norm"), model.device, model.dtype)
    if why is not None:
        return why
    if torch.cuda.is_current_stream_capturing():
        return "one is being captured around it"
    try:
        hash(fixed)
    except TypeError as error:
        return f"{fixed} has no hash ({error})"
    return None
