"""`cost` in closed form against torch's own counter, on the smallest model of each family that is pruned in place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import pytest
import torch
from families import FAMILIES, IMAGE, make, one, prompt
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import deltaprune as dp
from deltaprune.cost import macs, share_of
from deltaprune.cost.hosted import hosted_decode_macs, hosted_macs
from deltaprune.hosted.config import HostedConfig
from deltaprune.hosted.mixing import Mixing, SelectiveScan
from deltaprune.hosted.model import Hosted
from deltaprune.hosted.sizes import MIXINGS, mixing_of
from deltaprune.inplace.probes import registry as probes
from deltaprune.methods import parse
from deltaprune.methods import registry as methods_of_all
from deltaprune.methods.none import NoPruning
from deltaprune.scores import registry as scores
from deltaprune.steps import Method, Pass, Shape, Step

pytestmark = pytest.mark.usefixtures("unchecked")
TEXT = tuple(range(5, 45))
CLOSE = 0.01
GATED = ("qwen3_5", "qwen3_5_moe", "minicpmv4_6", "nemotron_h_omni")


@dataclass(frozen=True)
class Passing(Method):
    """Some layers do not see the image."""

    layers: tuple[int, ...]
    how: Any = "skip"

    def steps(self, shape: Shape) -> tuple[Step, ...]:
        return (Pass(self.layers, self.how),)


def triangular(a: tuple[int, ...], b: tuple[int, ...], *_: Any, **__: Any) -> int:
    """FLOPs of a unit triangular system of n rows for k right sides: n (n - 1) / 2 multiply-accumulates for each."""
    *batch, n, k = b
    return int(torch.Size(batch).numel()) * n * (n - 1) * k


def grouped(x: tuple[int, ...], weight: tuple[int, ...], *_: Any, **__: Any) -> int:
    """FLOPs of rows, each with its own expert's weight."""
    return 2 * x[0] * weight[-2] * weight[-1]


def counted(model: Any, name: str, inputs: Mapping[str, Tensor], method: Method) -> float:
    """Multiply-accumulates of the text model, by torch."""
    more = {torch.ops.aten.linalg_solve_triangular: triangular, torch.ops.aten._grouped_mm: grouped}
    counter: Any = FlopCounterMode(display=False, custom_mapping=more)
    with method(model) as target, torch.no_grad(), counter:
        model(**inputs)
    text = f"{type(model).__name__}.{target.family.text}"
    return sum(counter.get_flop_counts()[text].values()) / 2


def closed(model: Any, n: int, method: Method) -> float:
    config = HostedConfig.of(model, "tiny").with_visual(n)
    cost = hosted_macs(config, method, len(TEXT) + 2)
    assert cost.share == pytest.approx(share_of(config, method, len(TEXT) + 2))
    return cost.total - cost.components["head"]


def methods(name: str) -> list[Method]:
    """Scores are not counted: DTP's own is one small projection, the other chooses without one."""
    last = (8 if name in GATED else 6) - 1
    score = "delta" if name in GATED else "uniform"
    passing = Passing((1, 2, 3))
    return [NoPruning(), dp.DTP(keep=0.5, early=2, late=last, score=score), dp.VTW(after=1), passing]


@pytest.mark.parametrize("name", FAMILIES)
def test_torch_counts_the_same(name: str) -> None:
    model, inputs = make(name, "eager"), prompt(name, (5, 6, 7, (4, 4), *TEXT[3:]))
    n = int((inputs["input_ids"] == 120).sum())
    assert inputs["input_ids"].shape[1] == n + len(TEXT) + 2
    for method in methods(name):
        ours, theirs = closed(model, n, method), counted(model, name, inputs, method)
        assert ours == pytest.approx(theirs, rel=CLOSE), method


def test_a_decoded_row() -> None:
    """By hand, from the sizes in `families`: attention reads what its layer keeps, a recurrence its state."""
    config = HostedConfig.of(make("qwen3_vl"), "tiny").with_visual(16)
    cost = hosted_decode_macs(config, dp.VTW(after=2), 20)
    assert cost.components["linear"] == 6 * (32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 64)
    assert cost.components["attention"] == 2 * 4 * 8 * (2 * (36 + 1) + 4 * (20 + 1))
    assert cost.components["head"] == 32 * 128
    hybrid = HostedConfig.of(make("qwen3_5"), "tiny")
    assert hosted_decode_macs(hybrid, NoPruning(), 9).components["recurrence"] == 6 * 3 * 4 * 8 * 8


def said(run: Callable[[], object]) -> str:
    """The sentence with which a call is refused; "" where it is not."""
    try:
        run()
    except dp.UserError as error:
        return str(error)
    return ""


def texts() -> list[str]:
    """Every method as it is, DTP by every score, and some whose steps ask for more."""
    by_score = [f"dtp:score={name}" for name in scores.names() if name != "chosen"]
    freezing = (
        "freeze:write=1+2",
        "freeze:skip=1+2",
        "freeze:mean=1",
        "freeze:write=1-4,early=5,keep=0.5,score=output",
    )
    return [*methods_of_all.names(), *by_score, *freezing, "chosen:drop=0-3", "vtw:after=3", "downscale:keep=1"]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_cost_is_given_where_a_method_can_run(name: str) -> None:
    """`cost` and a run refuse the same methods, in the same words."""
    model, inputs, refused = make(name), one(name), set[str]()
    vlm = Hosted(model, HostedConfig.of(model, name))
    config = vlm.config.with_visual(int(vlm.is_visual(inputs["input_ids"]).sum()))
    for text in texts():
        ran = said(lambda text=text: vlm.start(inputs, text))
        assert said(lambda text=text: macs(config, parse(text), 22)) == ran, text
        if ran:
            refused.add(text)
    assert {"alignment", "downscale", "freeze:mean=1"} <= refused
    assert ("utrc" in refused) == (name not in GATED)
    assert not refused & {"none", "freeze", "dart", "random", "freeze:write=1+2", "downscale:keep=1"}


def test_every_mixer_has_a_form() -> None:
    for name in probes.names():
        assert {kind.__name__ for kind in probes[name].__mro__} & MIXINGS.keys(), name
    with pytest.raises(dp.UserError, match="The cost of a Linear is not known"):
        mixing_of(torch.nn.Linear(2, 2), cast(Any, object()))
    assert Mixing()(3, 4) == 0
    assert SelectiveScan(5, 2)(3, 4) == (4 * 2 + 3) * 5 * 4 == 4 * SelectiveScan(5, 2).step(9)


def test_a_writing_row_costs_what_the_hooks_run() -> None:
    """k and v in attention, nothing in experts; of a DeltaNet neither q, z nor the output, by torch's count as well."""
    layers = HostedConfig.of(make("nemotron_h_omni"), "tiny").layers
    kinds = dict(zip("MEM*EM*E", layers, strict=True))
    assert (kinds["*"].written.linear, kinds["E"].written.linear) == (2 * 32 * 16, 0)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "lfm2_vl"])
def test_torch_counts_the_same_where_rows_only_write(name: str) -> None:
    """Text before and behind the image in whole chunks, as the closed form takes all of it to be in one piece."""
    model = make(name, "eager")
    inputs = prompt(name, (*range(3, 66), (4, 4), *range(4, 67)))
    n, text = int((inputs["input_ids"] == IMAGE).sum()), 128
    config = HostedConfig.of(model, "tiny").with_visual(n)
    for layers in ((1, 2, 3), tuple(range(len(config.layers)))):
        method = Passing(layers, "write")
        cost = hosted_macs(config, method, text)
        ours, theirs = cost.total - cost.components["head"], counted(model, name, inputs, method)
        assert ours == pytest.approx(theirs, rel=CLOSE), layers
