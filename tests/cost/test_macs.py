"""Closed-form MACs: the paper's numbers, a count by loops, torch's own counter, and what must always hold."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from deltaprune import DTP, Method, NoPruning, RandomPruning, Shape, Stage, UserError
from deltaprune.cost import Cost, macs, share_of, tokens_kept, visual_tokens_per_layer
from deltaprune.mamba import MambaConfig, MambaLM
from deltaprune.models._mllm import MLLMConfig, projector
from deltaprune.models.cobra import COBRA, dino, siglip
from deltaprune.models.robomamba import ROBOMAMBA
from deltaprune.prefill import Prefilled, prefill
from deltaprune.tokens import Tokens
from deltaprune.vision.towers import TOWERS

TINY = MLLMConfig(
    name="tiny",
    towers={"dino": dino(32, 8, 32, 3, 2), "siglip": siglip(32, 8, 48, 4, 2, 80)},
    projector=(64, 40, 24),
    lm=MambaConfig(d_model=24, n_layers=6, vocab_size=50, d_state=5, d_conv=3, dt_rank=7),
    template="zephyr",
)
METHODS = [
    NoPruning(),
    DTP(keep=0.4, early=2, late=4),
    DTP(keep=0.7, early=1, late=None),
    DTP(keep=0.3, early=3, late=None, candidates="all"),
    RandomPruning(keep=0.0, early=0, late=1),
]
by_method = pytest.mark.parametrize("method", METHODS, ids=repr)


@pytest.mark.parametrize(
    ("config", "text_tokens", "method", "paper", "tolerance"),
    [
        # T of the prefill; Tables 1 and 2, and Table 5 where the late stage is off. Text tokens are not printed in the
        # paper: 22 and 5 are what fits.
        (COBRA, 22, NoPruning(), 2.01, 0.012),
        (COBRA, 22, DTP(keep=0.9), 1.35, 0.012),
        (COBRA, 22, DTP(keep=0.5), 0.97, 0.012),
        (COBRA, 22, DTP(keep=0.5, late=None), 1.26, 0.012),
        (ROBOMAMBA, 5, NoPruning(), 0.70, 0.005),
        (ROBOMAMBA, 5, DTP(keep=0.9), 0.46, 0.005),
        (ROBOMAMBA, 5, DTP(keep=0.5), 0.34, 0.005),
        (ROBOMAMBA, 5, DTP(keep=0.5, late=None), 0.44, 0.005),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_the_papers_table(config, text_tokens, method, paper, tolerance):
    cost = macs(config, method, text_tokens, "paper")
    assert cost.total / 1e12 == pytest.approx(paper, abs=tolerance)


@pytest.mark.parametrize(
    ("config", "text_tokens", "ours"),
    [(COBRA, 22, (2.0135, 1.3415, 0.9745, 1.2643)), (ROBOMAMBA, 5, (0.6998, 0.4633, 0.3351, 0.4370))],
    ids=["cobra", "robomamba"],
)
def test_the_exact_count_beside_it(config, text_tokens, ours):
    methods = (NoPruning(), DTP(keep=0.9), DTP(keep=0.5), DTP(keep=0.5, late=None))
    totals = [macs(config, method, text_tokens, "paper").total / 1e12 for method in methods]
    assert totals == pytest.approx(ours, abs=5e-5)


def brute_force(config: MLLMConfig, layers: list[tuple[int, int]], convention: str) -> dict[str, int]:
    """MACs counted one row, one channel, one state at a time; `layers`: (visual, text) rows of each."""
    lm, count = config.lm, dict.fromkeys(("linear", "conv", "scan"), 0)
    for visual, text in layers:
        for _ in range(visual + text):
            for fan_in, fan_out in (
                (lm.d_model, 2 * lm.d_inner),
                (lm.d_inner, lm.rank + lm.d_state + lm.d_state),
                (lm.rank, lm.d_inner),
                (lm.d_inner, lm.d_model),
            ):
                count["linear"] += fan_in * fan_out
            for _ in range(lm.d_inner):
                count["conv"] += lm.d_conv
                count["scan"] += 2 if convention == "paper" else len(("delta * u", "D * u", "y * silu(z)"))
                for _ in range(lm.d_state):
                    count["scan"] += 9 if convention == "paper" else len(("delta * A", "* B", "exp(.) * h", "C * h"))
    return count


@by_method
@pytest.mark.parametrize("convention", ["full", "paper"])
def test_a_count_by_loops(method, convention):
    config = replace(TINY, lm=replace(TINY.lm, d_model=8))
    n, text = config.n_visual, 3
    live, layers = n, []
    stages = {stage.after: stage for stage in method.stages(config.shape)}
    for l in range(config.lm.n_layers):
        live = min(live, int(stages[l].keep * n + 1e-6)) if l in stages else live
        layers.append((live, text))
    cost = macs(config, method, text, convention)
    expected = brute_force(config, layers, convention)
    assert {name: getattr(cost, name) for name in expected} == expected
    base = brute_force(config, [(n, text)] * config.lm.n_layers, convention)
    assert cost.share == pytest.approx(sum(expected.values()) / sum(base.values()), rel=1e-12)


def counted(module: nn.Module, *inputs: Tensor) -> int:
    """torch's own count of what a module does; FLOPs are twice the MACs. It cannot see into fused attention."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops() // 2


def prefilled_and_flops(method: Method, text: int) -> tuple[MambaLM, Prefilled, int]:
    """A real prefill of random rows, and torch's count of its matrix products."""
    lm = MambaLM(TINY.lm).requires_grad_(False)
    lm.reset_parameters()
    tokens = Tokens.pack([torch.randn(TINY.n_visual, 24)], [torch.randn(text, 24)])
    with FlopCounterMode(display=False) as counter:
        prefilled = prefill(lm, tokens, method.stages(TINY.shape))
    return lm, prefilled, sum(n for op, n in counter.get_flop_counts()["Global"].items() if "mm" in str(op))


@by_method
def test_linear_and_head_against_torchs_counter(method):
    lm, prefilled, flops = prefilled_and_flops(method, 7)
    cost = macs(TINY, method, 7)
    assert flops == 2 * cost.linear
    with FlopCounterMode(display=False) as counter:
        lm.logits(prefilled.hidden)
    assert counter.get_total_flops() == 2 * cost.head


@pytest.mark.parametrize("method", [m for m in METHODS if getattr(m, "candidates", "visual") == "visual"], ids=repr)
def test_tokens_kept_are_those_of_a_real_prefill(method):
    _, prefilled, _ = prefilled_and_flops(method, 7)
    ours = tokens_kept(method.stages(TINY.shape), TINY.shape)
    real = [kept.counts[0] for kept in prefilled.kept]  # a stage that finds no image left is not listed there
    assert ours == real + [0] * (len(ours) - len(real))


@pytest.mark.parametrize("name", ["dino", "siglip"])
def test_vision_against_torchs_counter(name):
    config = replace(TINY, towers={name: TINY.towers[name]})
    tower = TOWERS[config.towers[name].kind](config.towers[name])
    assert counted(tower, torch.zeros(1, 3, 32, 32)) == macs(config, NoPruning(), 1).vision


def test_projector_against_torchs_counter():
    features = torch.zeros(1, TINY.n_visual, TINY.vision_width)
    assert counted(projector(TINY.vision_width, TINY.projector), features) == macs(TINY, NoPruning(), 1).projector


@pytest.mark.parametrize("convention", ["full", "paper"])
def test_components_and_total(convention):
    cost = macs(TINY, METHODS[1], 5, convention)
    names = ["vision", "projector", "linear", "conv", "scan", "head", "total"]
    assert list(cost.components) == names
    assert cost.total == sum(cost.components[name] for name in names[:-1])
    if convention == "paper":
        assert (cost.vision, cost.projector, cost.head) == (0, 0, 0)


@by_method
def test_the_share_does_not_depend_on_the_convention(method):
    full, paper = macs(TINY, method, 5), macs(TINY, method, 5, "paper")
    assert full.share == paper.share == share_of(TINY, method, 5)
    base = macs(TINY, NoPruning(), 5)

    def prefill_macs(cost: Cost) -> float:
        return cost.linear + cost.conv + cost.scan

    assert full.share == pytest.approx(prefill_macs(full) / prefill_macs(base), rel=1e-12)


@pytest.mark.parametrize("config", [TINY, COBRA, ROBOMAMBA], ids=lambda config: config.name)
def test_keeping_everything_costs_everything(config):
    assert share_of(config, DTP(keep=1.0, early=1, late=None), 22) == 1.0
    assert share_of(config, NoPruning(), 22) == 1.0


@settings(deadline=None)
@given(st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted), st.integers(1, 100), st.booleans())
def test_keeping_more_never_costs_less(keeps, text_tokens, late):
    less, more = (share_of(TINY, DTP(keep, 2, 4 if late else None), text_tokens) for keep in keeps)
    assert 0 < less <= more <= 1


def test_a_mean_number_of_text_tokens():
    first, second, between = (macs(TINY, METHODS[1], text) for text in (4, 7, 5.5))
    assert between.total == (first.total + second.total) / 2


def test_tokens_by_layer_and_by_stage():
    shape = Shape(n_layers=64, n_visual=729)
    stages = DTP(keep=0.5, early=15, late=45).stages(shape)
    assert visual_tokens_per_layer(stages, shape) == [729] * 15 + [364] * 30 + [0] * 19
    assert tokens_kept(stages, shape) == [364, 0]
    assert visual_tokens_per_layer((), shape) == [729] * 64
    assert tokens_kept((), shape) == []


def test_a_stage_that_asks_for_more_than_is_left():
    shape = Shape(n_layers=4, n_visual=10)
    assert visual_tokens_per_layer((Stage(1, 0.0), Stage(2, 1.0)), shape) == [10, 0, 0, 0]


@pytest.mark.parametrize("text_tokens", [0, -3, 0.5, float("nan")])
def test_a_prompt_has_text(text_tokens):
    with pytest.raises(UserError, match="at least 1"):
        macs(TINY, NoPruning(), text_tokens)
    with pytest.raises(UserError, match="at least 1"):
        share_of(TINY, NoPruning(), text_tokens)


def test_an_unknown_convention():
    with pytest.raises(UserError, match="did you mean 'paper'"):
        macs(TINY, NoPruning(), 22, "papers")


@pytest.mark.parametrize("method", [DTP(), DTP(early=1, late=6), DTP(early=3, late=2)], ids=repr)
def test_a_method_that_does_not_fit_the_model(method: Method):
    with pytest.raises(UserError):
        macs(TINY, method, 22)
