"""The decode step as one CUDA graph.

A step of mamba-2.8b is some 600 launches for 1.2 ms of reading weights: launched one by one they cost more than the
reading. The state never grows, so one captured step per batch size serves every position.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from deltaprune._registry import UserError
from deltaprune.kernels._backend import forced, select
from deltaprune.kernels._device import on_device_of
from deltaprune.mamba.backbone import MambaLM
from deltaprune.mamba.layer import State

MOST_KEPT = 8  # idle graphs per model: each holds the states of its rows
_LOG = logging.getLogger("deltaprune.kernels")
_LOCK, _CAPTURING = threading.Lock(), threading.Lock()
_IDLE: "WeakKeyDictionary[MambaLM, list[GraphedStep]]" = WeakKeyDictionary()

Step = Callable[[Int[Tensor, "B"]], Float[Tensor, "B V"]]


@contextlib.contextmanager
def stepping(model: MambaLM, states: list[State], graphed: bool | None = None) -> Iterator[Step]:
    """A function `ids (B,) -> logits (B, V)` that decodes one token of every row, going on from `states`.

    The logits are valid until its next call. The caller's states are not written to.

    Args:
        model: the LM.
        states: one per layer.
        graphed: replay a CUDA graph; None does so wherever it can be done.

    Raises:
        UserError: a graph is asked for and cannot be had.
    """
    why = _why_not(model, states)
    if graphed and why is not None:
        raise UserError(f"The decode step cannot be a CUDA graph: {why}; leave `graphed` unset.")
    if graphed is False or why is not None:
        _LOG.debug("decoding without a CUDA graph: %s", why or "it is forbidden")
        yield _eager(model, states)
        return
    step = _taken(model, len(states[0].ssm))
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

    def __init__(self, model: MambaLM, batch: int):
        self.key = _key(model, batch)
        self.ids = torch.zeros(batch, dtype=torch.long, device=model.backbone.embedding.weight.device)
        self.states = [layer.empty_state(batch) for layer in model.layers]

        def run() -> Tensor:
            logits, new = model.step(self.ids, self.states)
            self.load(new)
            return logits

        with torch.no_grad(), on_device_of(self.ids):
            self.replay, self.logits = _capture(run)

    def load(self, states: list[State]) -> None:
        """Copy states into the graph's own, all layers at once."""
        for part in ("ssm", "conv"):
            into, source = ([getattr(state, part) for state in each] for each in (self.states, states))
            torch._foreach_copy_(into, source)  # pyright: ignore[reportPrivateImportUsage]

    def __call__(self, ids: Int[Tensor, "B"]) -> Float[Tensor, "B V"]:
        with on_device_of(self.ids):
            self.ids.copy_(ids)
            self.replay()
        return self.logits


def _capture(run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """A function that repeats on the GPU what `run` does, and the tensor that `run` returned, which it fills.

    Before the capture the kernels are compiled and the libraries are opened, which a graph cannot hold. One capture at
    a time; what other threads do on the GPU meanwhile is no part of it and does not break it. On a stream made here:
    torch's own for captures belongs to the GPU that captured first.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with _CAPTURING, torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
        result = run()
    return graph.replay, result


def _eager(model: MambaLM, states: list[State]) -> Step:
    """The same without a graph."""
    states = list(states)

    @torch.no_grad()
    def step(ids: Tensor) -> Tensor:
        logits, states[:] = model.step(ids, states)
        return logits

    return step


def _taken(model: MambaLM, batch: int) -> GraphedStep:
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


def _key(model: MambaLM, batch: int) -> tuple[object, ...]:
    """What a graph has baked in: the batch, where the weights lie, and the kernels.

    Asked at every answer: `model.parameters()` would take as long as a decoded token does on a GPU.
    """
    places: list[tuple[int, torch.dtype]] = []
    modules: list[nn.Module] = [model]
    while modules:
        module = modules.pop()
        for held in (module._parameters, module._buffers):
            places += [(weight.data_ptr(), weight.dtype) for weight in held.values() if weight is not None]
        modules += [child for child in module._modules.values() if child is not None]
    return batch, hash(tuple(places)), forced()


def _why_not(model: MambaLM, states: list[State]) -> str | None:
    """Half a sentence, or None."""
    device, dtype = states[0].ssm.device, model.backbone.embedding.weight.dtype
    if device.type != "cuda":
        return f"the model is on {device.type}"
    for op in ("causal_conv1d", "selective_scan"):
        chosen = select(f"deltaprune.kernels.{op}", device, carries_state=True, dtype=dtype)
        if not chosen.capturable:
            return f"the {chosen.name!r} backend of {op} asks the device for values"
    return None
