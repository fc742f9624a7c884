"""One CUDA graph of a function whose inputs and result are tensors in tuples and dataclasses."""

import contextlib
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from deltaprune.cuda_graphs.step import _capture

ALIGNED = 256  # bytes
_ATEN = torch.ops.aten
_BY_INDEX = (_ATEN.index.Tensor, _ATEN.index_put.default, _ATEN.index_put_.default)
_TAGS = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)


class Buffers:
    """Memory that graphs which never run at the same time share: each takes it from the start."""

    def __init__(self) -> None:
        self.memory = torch.empty(0, dtype=torch.uint8)

    def like(self, tensors: list[Tensor]) -> list[Tensor]:
        """A place for each of these tensors, uninitialised. Where there is too little memory, in new memory."""
        starts = list(accumulate((-(-tensor.nbytes // ALIGNED) * ALIGNED for tensor in tensors), initial=0))
        if self.memory.device != tensors[0].device or starts[-1] > len(self.memory):
            size = 1 << starts[-1].bit_length()  # twice as much each time, for the old memory stays with its graphs
            self.memory = torch.empty(size, dtype=torch.uint8, device=tensors[0].device)
        places = zip(starts[:-1], tensors, strict=True)
        return [self.memory[a : a + x.nbytes].view(x.dtype).view(x.shape) for a, x in places]


class Captured:
    """A captured run that a GPU replays, from input buffers into result buffers.

    Args:
        run: the function. It must not wait for the device, nor let it read host memory.
        layout: of its inputs, see `flatten`.
        inputs: their tensors, to run on while capturing.
        shared: buffers for the inputs and for the results, and the pool and stream of `_capture`: graphs that share
            them must never run at the same time.

    Raises:
        RuntimeError: it cannot be captured. The GPU and its streams are as they were.
    """

    def __init__(
        self,
        run: Callable[..., object],
        layout: Hashable,
        inputs: list[Tensor],
        shared: tuple[Buffers, Buffers, Any, Any],
    ):
        into, out, pool, stream = shared
        self.inputs = into.like(inputs)
        _copy(inputs, self.inputs)
        given: Any = restored(layout, iter(self.inputs))

        def watched() -> object:
            with unread() if torch.cuda.is_current_stream_capturing() else contextlib.nullcontext():
                return run(*given)

        results: list[Tensor] = []  # of a trial run, discarded: while watched, torch computes some ops differently
        self.layout = flatten(_capture(watched, stream=stream)[1], results)
        self.results = out.like(results)
        results.clear()

        def copied() -> None:
            made: list[Tensor] = []
            flatten(run(*given), made)
            _copy(made, self.results)

        self.replay, _ = _capture(copied, pool, stream)

    def __call__(self, inputs: list[Tensor]) -> Any:
        """The result for these inputs, in memory of its own."""
        _copy(inputs, self.inputs)
        self.replay()
        fresh = [torch.empty_like(tensor) for tensor in self.results]
        _copy(self.results, fresh)
        return restored(self.layout, iter(fresh))


@contextlib.contextmanager
def unread() -> Iterator[None]:
    """Context manager: ops that wait for the device or make it read host memory raise before CUDA runs them.

    CUDA itself would only break the capture off, which leaves torch's allocator unusable (pytorch/pytorch#180395), or,
    where the host memory is pinned, let the graph read it again when it holds something else.
    """
    with _Calls(), _Ops():
        yield


class _Calls(TorchFunctionMode):
    """Checks calls that copy from the host and that torch does not show to `_Ops`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        index = args[1] if name in ("__getitem__", "__setitem__") else ()
        by_list = any(isinstance(part, list) for part in (index if isinstance(index, tuple) else (index,)))
        made = name in ("tensor", "as_tensor", "asarray") and torch.device(kwargs.get("device") or "cpu").type != "cpu"
        if by_list or made or name == "new_tensor":
            raise _waiting(name)
        return func(*args, **kwargs)


class _Ops(TorchDispatchMode):
    """Checks every op."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _waits(func, args, kwargs):
            raise _waiting(func)
        return func(*args, **kwargs)


def _waiting(func: object) -> RuntimeError:
    return RuntimeError(f"{func} asks the device for a value or copies between it and the host")


def _waits(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether an op asks the device for a value, or for one that decides a shape, or copies to or from the host."""
    if func in (_ATEN._to_copy.default, _ATEN.copy_.default):
        other = args[1].device if func is _ATEN.copy_.default else kwargs.get("device") or args[0].device
        return torch.device(other).type != args[0].device.type
    first = next((arg for arg in args if isinstance(arg, Tensor)), None)
    if first is None or first.device.type == "cpu":
        return False
    if func in _BY_INDEX:
        masks = (torch.bool, torch.uint8)
        return any(i is not None and (i.dtype in masks or i.device.type != first.device.type) for i in args[1])
    if func is _ATEN.repeat_interleave.Tensor:
        return kwargs.get("output_size") is None
    return any(tag in func.tags for tag in _TAGS)


class _Slot(NamedTuple):
    """A tensor's place."""

    shape: torch.Size
    dtype: torch.dtype


class _Map(NamedTuple):
    """A mapping."""

    parts: tuple[tuple[Hashable, Hashable], ...]


class _Made(NamedTuple):
    """A dataclass."""

    kind: type
    parts: tuple[Hashable, ...]


def flatten(value: object, tensors: list[Tensor]) -> Hashable:
    """Tuples, mappings and dataclasses without their tensors, which are added to the list."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return _Slot(value.shape, value.dtype)
    if isinstance(value, tuple):
        return tuple(flatten(part, tensors) for part in value)
    if isinstance(value, Mapping):
        return _Map(tuple((name, flatten(part, tensors)) for name, part in sorted(value.items())))
    if is_dataclass(value):
        return _Made(type(value), tuple(flatten(getattr(value, field.name), tensors) for field in fields(value)))
    return value


def restored(layout: Hashable, tensors: Iterator[Tensor]) -> Any:
    """The inverse of `flatten`."""
    if isinstance(layout, _Slot):
        return next(tensors)
    if isinstance(layout, _Map):
        return {name: restored(part, tensors) for name, part in layout.parts}
    if isinstance(layout, _Made):
        return layout.kind(*(restored(part, tensors) for part in layout.parts))
    if isinstance(layout, tuple):
        return tuple(restored(part, tensors) for part in layout)
    return layout


def _copy(sources: list[Tensor], targets: list[Tensor]) -> None:
    """Each tensor into its twin, all of one type at once."""
    pairs: dict[torch.dtype, list[tuple[Tensor, Tensor]]] = {}
    for source, target in zip(sources, targets, strict=True):
        if source.numel():
            pairs.setdefault(source.dtype, []).append((target, source))
    for alike in pairs.values():
        into, source = zip(*alike, strict=True)
        torch._foreach_copy_(into, source)  # pyright: ignore[reportPrivateImportUsage]
