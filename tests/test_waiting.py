"""No stage waits for the device: nothing is read back, and nothing is copied to a GPU in a way that waits.

Every stage runs on torch's device "meta", whose tensors have shapes and no values. `.item()`, `.tolist()`, `bool()`, a
mask as an index and every other operation whose result's shape depends on values raises there, as it would wait on a
GPU. A list as an index, or a host tensor that is copied without `non_blocking`, waits on a GPU as well but passes on
"meta": those are watched for. The one check that reads a value is made on a CPU alone (`pruner.Pruner`).
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from traces import trace_of

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.cuda_graphs.captured import unread
from deltaprune.methods import parse, registry
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import _last_rows
from deltaprune.pruner import Pruner
from deltaprune.rows import Rows, on_device
from deltaprune.scores import registry as scores
from deltaprune.scores.delta import Delta
from deltaprune.steps import Plan, Score, Shape, Stage, Step, stages_of
from deltaprune.trace import ROLES, Trace

SHAPE = Shape(n_layers=12, n_visual=21, plan=Plan(early=3, late=9))
SAMPLES = [(21, 5), (9, 1), (0, 4), (21, 3)]
E, N, D = 6, 4, 8


class Waiting(TorchFunctionMode):
    """Collects the calls that copy from the host to the device and wait."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        name = getattr(function, "__name__", str(function))
        made = name in ("tensor", "as_tensor") and isinstance(result, Tensor) and result.device.type != "cpu"
        sent = (
            isinstance(result, Tensor)
            and bool(args)
            and isinstance(args[0], Tensor)
            and args[0].device != result.device
            and not kwargs.get("non_blocking")
        )
        by_list = name in ("__getitem__", "__setitem__") and any(isinstance(part, list) for part in _parts(args[1]))
        if made or sent or by_list:
            self.calls.append(name)
        return result


def _parts(index: object) -> tuple[object, ...]:
    return index if isinstance(index, tuple) else (index,)


def batch(device: str = "meta") -> tuple[Rows, Trace]:
    """Ragged samples and a full trace of them."""
    tokens = Rows.pack(
        [torch.randn(v, D, device=device) for v, _ in SAMPLES],
        [torch.randn(t, D, device=device) for _, t in SAMPLES],
        torch.zeros(len(SAMPLES), dtype=torch.int64, device=device),
    )
    widths = {"delta": E, "key": N, "query": N, "value": E, "output": E, "hidden": D}
    rows = {name: torch.rand(len(tokens.x), width, device=device) for name, width in widths.items()}
    mean = rows["delta"].mean(-1)
    return tokens, trace_of(step=mean, attention=mean, decay=-torch.rand(E, N, device=device), **rows)


class Telling:
    """A layer that tells everything."""

    offers: ClassVar[frozenset[str]] = ROLES
    offers_writing: ClassVar[frozenset[str]] = ROLES
    decays_over_gaps: ClassVar[bool] = True


class Layered:
    """Layers of all kinds at once, and a final norm."""

    def __init__(self) -> None:
        self.blocks = [Telling()] * SHAPE.n_layers
        self.norm = MambaLM(MambaConfig(d_model=D, n_layers=1, vocab_size=8)).norm


def run(steps: tuple[Step, ...], device: str = "meta") -> Rows:
    """Every stage in turn, as `prefill` applies them; the trace follows the rows."""
    stages = stages_of(steps)
    tokens, whole = batch(device)
    with torch.device(device):
        model = Layered()
    pruner = Pruner(model, stages)
    for stage in stages:
        pruner.tell(stage.after - 1, _head(whole, len(tokens.x)))
        tokens = pruner.enter(stage.after, tokens)
        assert tokens is not None
    assert len(pruner.kept) == len(stages)
    return tokens


def _head(whole: Trace, length: int) -> Trace:
    return whole.map(lambda rows: rows[:length])


def waits(action: Callable[[], object]) -> list[str]:
    """What an action waits for, by name."""
    with Waiting() as watch:
        action()
    return watch.calls


@pytest.mark.parametrize("text", [*registry.names(), "dart:exact_budget=true,pivots=random", "dtp:keep=0.9,late=none"])
def test_no_method_waits(text: str) -> None:
    method = parse(text)
    assert waits(lambda: run(method.checked_steps(SHAPE))) == []


@pytest.mark.parametrize("name", scores.names())
def test_no_score_waits(name: str) -> None:
    assert waits(lambda: run((Stage(3, 0.5, scores[name]()),))) == []


def test_text_that_competes_is_the_documented_exception() -> None:
    """How many visual rows won has to be read back, see `select`."""
    with pytest.raises((RuntimeError, NotImplementedError), match="nonzero"):
        run((Stage(3, 0.5, Delta(), candidates="all"),))


def test_the_rows_around_the_stages_do_not_wait() -> None:
    tokens, _ = batch()
    assert waits(lambda: _last_rows(tokens)) == []
    assert waits(lambda: _last_rows(replace(tokens, lengths=(26, 10, 0, 28)))) == []


class Reading(Score):
    """A score that does what no score may."""

    needs = frozenset({"step"})
    sees_text = False

    def __init__(self, read: Callable[[Tensor], object]):
        self.read = read

    def __call__(self, tokens: Rows, trace: Trace) -> Tensor:
        self.read(trace["step"])
        return trace["step"]


# What waits, and what "meta" says of it; the last three pass there and are named by the watch.
READS: list[tuple[Callable[[Tensor], object], str]] = [
    (lambda x: x[0].item(), "meta tensor"),
    (lambda x: x.tolist(), "meta tensor"),
    (lambda x: bool(x[0] > 0), "meta tensor"),
    (lambda x: int(x.argmax()), "meta tensor"),
    (lambda x: x[x > 0], "nonzero"),
    (lambda x: x.nonzero(), "nonzero"),
]
COPIES: list[tuple[Callable[[Tensor], object], str]] = [
    (lambda x: x[[0, 2]], "__getitem__"),
    (lambda x: torch.tensor([1.0, 2.0], device=x.device), "tensor"),
    (lambda x: torch.arange(3).to(x.device), "to"),
]


@pytest.mark.parametrize(("read", "told"), READS)
def test_what_reads_a_value_raises(read: Callable[[Tensor], object], told: str) -> None:
    with pytest.raises((RuntimeError, NotImplementedError), match=told):
        waits(lambda: run((Stage(3, 0.5, Reading(read)),)))


@pytest.mark.parametrize(("copy", "name"), COPIES)
def test_what_copies_and_waits_is_found(copy: Callable[[Tensor], object], name: str) -> None:
    assert waits(lambda: run((Stage(3, 0.5, Reading(copy)),))) == [name]


def test_nothing_is_found_where_nothing_waits() -> None:
    assert waits(lambda: run((Stage(3, 0.5, Reading(lambda x: x.argmax() + x.sum())),))) == []


@pytest.fixture
def capturing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a capture that is watched, in which `on_device` copies nothing."""

    def made(numbers: Sequence[int], device: torch.device, dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.empty(len(numbers), dtype=dtype, device=device)

    for module in [module for module in list(sys.modules.values()) if getattr(module, "on_device", None) is on_device]:
        monkeypatch.setattr(module, "on_device", made)
    with unread():
        yield


@pytest.mark.usefixtures("capturing")
@pytest.mark.parametrize("text", [*registry.names(), "dart:exact_budget=true,pivots=random", "dtp:keep=0.9,late=none"])
def test_no_method_is_refused_a_graph(text: str) -> None:
    run(parse(text).checked_steps(SHAPE))


@pytest.mark.usefixtures("capturing")
@pytest.mark.parametrize("name", scores.names())
def test_no_score_is_refused_a_graph(name: str) -> None:
    run((Stage(3, 0.5, scores[name]()),))


@pytest.mark.usefixtures("capturing")
@pytest.mark.parametrize(
    "read",
    [
        *(call for call, _ in (*READS, *COPIES)),
        lambda x: x.to("cpu", non_blocking=True),
        lambda x: x.cpu(),
        lambda x: x.clone().index_put_((x > 0,), x),
        lambda x: torch.zeros(3).copy_(x[:3]),
        lambda x: torch.repeat_interleave(x.long()),
    ],
)
def test_what_reads_is_refused_before_it_does(read: Callable[[Tensor], object]) -> None:
    with pytest.raises(RuntimeError, match="asks the device for a value or copies between it and the host"):
        run((Stage(3, 0.5, Reading(read)),))


@pytest.mark.gpu
@pytest.mark.parametrize("text", registry.names())
def test_no_method_waits_on_a_gpu(text: str) -> None:
    stages = parse(text).checked_steps(SHAPE)
    run(stages, "cuda")  # the first run may compile and allocate
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        run(stages, "cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")
