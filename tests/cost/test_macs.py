"""Closed-form MACs: a count by loops, Cobra's towers by hand, and what must always hold."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_config import METHODS, TINY, by_method

from deltaprune import DTP, Method, NoPruning, Shape, Stage, UserError
from deltaprune.cost import Cost, decode_macs, macs, share_of, tokens_kept, visual_tokens_per_layer
from deltaprune.methods import fields_of, parse
from deltaprune.methods import registry as methods
from deltaprune.mllm.lm import MambaLM
from deltaprune.mllm.network import MLLMConfig
from deltaprune.models.cobra import COBRA
from deltaprune.models.robomamba import ROBOMAMBA
from deltaprune.prefill import prefill
from deltaprune.rows import Rows
from deltaprune.scores import registry as scores
from deltaprune.steps import Plan

PLANNED = replace(TINY, plan=Plan(early=2, late=4))


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
    stages = {stage.after: stage for stage in method.steps(config.shape)}
    for l in range(config.lm.n_layers):
        live = min(live, int(stages[l].keep * n + 1e-6)) if l in stages else live
        layers.append((live, text))
    cost = macs(config, method, text, convention)
    expected = brute_force(config, layers, convention)
    assert {name: getattr(cost, name) for name in expected} == expected
    base = brute_force(config, [(n, text)] * config.lm.n_layers, convention)
    assert cost.share == pytest.approx(sum(expected.values()) / sum(base.values()), rel=1e-12)


@pytest.mark.parametrize("name", [name for name in methods.names() if "score" in fields_of(methods[name])])
def test_a_cost_is_given_where_a_method_can_run(name):
    """Mamba-1 has no attention: a prefill refuses a score that reads it, and so does `macs`."""
    lm, tokens = MambaLM(TINY.lm), Rows.pack([torch.randn(TINY.n_visual, 24)], [torch.randn(3, 24)])
    more = {"freeze": "keep=0.5,", "fitprune": "budget=0.8,", "pyramid": "drops=1,"}.get(name, "")
    texts = {score: f"{name}:{more}score={score}" for score in scores.names() if score != "chosen"}
    ran = {score: said(lambda text=text: prefill(lm, tokens, steps(text))) for score, text in texts.items()}
    assert {score: said(lambda text=text: macs(PLANNED, parse(text), 3)) for score, text in texts.items()} == ran
    assert {score for score, sentence in ran.items() if sentence} == {"last_attention"}


def steps(text):
    return parse(text).checked_steps(PLANNED.shape)


def said(run):
    """The sentence with which a call is refused; "" where it is not."""
    try:
        run()
    except UserError as error:
        return str(error)
    return ""


def test_cobras_towers_by_hand():
    """Blocks that run: 23 of DINOv2's 24 on L = 729 + 5 rows, 26 of SigLIP's 27 on L = 729 rows.

    A block of width w, MLP width m: q, k, v and output 4 L w^2; scores and their sum over values 2 L^2 w; MLP 2 L w m.

              w     m          4 L w^2         2 L^2 w         2 L w m            block                     blocks
    DINOv2   1024  4096  3,078,619,136   1,103,372,288   6,157,238,272   10,339,229,696  x 23 = 237,802,283,008
    SigLIP   1152  4304  3,869,835,264   1,224,440,064   7,229,067,264   12,323,342,592  x 26 = 320,406,907,392

    and the patches, 729 * 3 * 14^2 * w: 438,939,648 and 493,807,104.
    """
    dino = 237_802_283_008 + 438_939_648
    siglip = 320_406_907_392 + 493_807_104
    assert macs(COBRA, NoPruning(), 22).vision == dino + siglip == 559_141_937_152


@pytest.mark.parametrize("convention", ["full", "paper"])
def test_components_and_total(convention):
    cost = macs(TINY, METHODS[1], 5, convention)
    names = ["vision", "projector", "linear", "conv", "scan", "head", "total"]
    assert list(cost.components) == names
    assert cost.total == sum(cost.components[name] for name in names[:-1])
    assert cost.flops == {name: 2 * value for name, value in cost.components.items()}
    if convention == "paper":
        assert (cost.vision, cost.projector, cost.head) == (0, 0, 0)


@pytest.mark.parametrize("convention", ["full", "paper"])
def test_a_decoded_token_is_one_more_word_of_the_prompt(convention):
    """Whatever was pruned: a row through every layer, and under "full" the head again; nothing of the image."""
    decode = decode_macs(TINY, convention)
    for method in METHODS:
        shorter, longer = (macs(TINY, method, text, convention) for text in (5, 6))
        step = {name: longer.components[name] - shorter.components[name] for name in ("linear", "conv", "scan")}
        assert step == {name: decode.components[name] for name in step}
    assert (decode.vision, decode.projector, decode.share) == (0, 0, 1)
    assert decode.head == macs(TINY, NoPruning(), 5, convention).head


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
    stages = DTP(keep=0.5, early=15, late=45).steps(shape)
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
    with pytest.raises(UserError, match="did you mean 'full'"):
        decode_macs(TINY, "ful")


@pytest.mark.parametrize(
    ("method", "told"),
    [
        (DTP(), 'early="plan", but this model has no plan'),
        (DTP(early=1, late=6), "A stage after layer 6 lies beyond the model: `after` is at most 5 for 6 layers"),
        (DTP(early=3, late=2), "early=3 is not below late=2"),
    ],
    ids=str,
)
def test_a_method_that_does_not_fit_the_model(method: Method, told: str):
    with pytest.raises(UserError, match=told):
        macs(TINY, method, 22)
