"""What every method promises: each entry of the registry x each property."""

from dataclasses import fields, is_dataclass
from itertools import pairwise

import pytest
import torch

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.cost import tokens_kept, visual_tokens_per_layer
from deltaprune.methods import parse, registry
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import Prefilled, prefill
from deltaprune.rows import Rows
from deltaprune.steps import Method, Plan, Shape, check_steps, stages_of

COBRA = Shape(n_layers=64, n_visual=729, plan=Plan(early=15, late=45))
SMALL = Shape(n_layers=8, n_visual=21, plan=Plan(early=2, late=6))
QUESTIONS = [(0, 5), (1, 1), (0, 63), (2, 4)]  # (which image, text tokens)


@pytest.fixture(params=registry.names())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_is_a_frozen_dataclass_whose_repr_is_its_identity(name: str) -> None:
    method = parse(name)
    assert is_dataclass(method)
    assert type(method).__dataclass_params__.frozen
    assert " at 0x" not in repr(method)
    assert repr(method) == repr(parse(name))
    assert hash(method) == hash(parse(name))
    assert method == parse(name)
    assert type(method).__doc__


def test_says_where_it_comes_from(name: str) -> None:
    assert getattr(registry[name], "paper", None) or not parse(name).steps(COBRA)


def test_its_stages_fit_the_papers_model(name: str) -> None:
    steps = parse(name).steps(COBRA)
    check_steps(steps, COBRA.n_layers)
    assert all(0 <= stage.keep <= 1 for stage in stages_of(steps))


def test_keep_changes_the_stages(name: str) -> None:
    if "keep" not in {f.name for f in fields(registry[name])}:
        pytest.skip(f"{name} has no share to keep")
    assert parse(f"{name}:keep=0.25").steps(COBRA) != parse(f"{name}:keep=0.75").steps(COBRA)


@pytest.mark.parametrize("shape", [COBRA, SMALL], ids=["cobra", "small"])
def test_more_to_keep_never_costs_less_and_keeps_more(name: str, shape: Shape) -> None:
    if "keep" not in {f.name for f in fields(registry[name])}:
        pytest.skip(f"{name} has no share to keep")
    shares = [i / 40 for i in range(41)]
    rows = [visual_tokens_per_layer(parse(f"{name}:keep={keep}").checked_steps(shape), shape) for keep in shares]
    assert all(a <= b for fewer, more in pairwise(rows) for a, b in zip(fewer, more, strict=True))
    assert rows[0][-1] == 0
    first = next(iter(stages_of(parse(f"{name}:keep=1").steps(shape))), None)
    assert rows[-1][0 if first is None else first.after] == shape.n_visual


@pytest.fixture(scope="module")
def lm() -> MambaLM:
    torch.manual_seed(0)
    model = MambaLM(MambaConfig(d_model=32, n_layers=SMALL.n_layers, vocab_size=64, d_state=8)).eval()
    model.reset_parameters()
    return model.requires_grad_(False)


def rows(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 32, generator=torch.Generator().manual_seed(seed))


IMAGES = [rows(21, 1), rows(21, 2), rows(9, 3)]
KEYS = torch.tensor([7, 8, 9])


def questions(*which: int) -> Rows:
    """Image and question of each row of `QUESTIONS` named; row i depends on i only."""
    image = [QUESTIONS[i][0] for i in which]
    return Rows.pack([IMAGES[i] for i in image], [rows(QUESTIONS[i][1], 10 + i) for i in which], KEYS[image])


def same_row(a: Prefilled, i: int, b: Prefilled, j: int) -> None:
    """Row i of one result equals row j of another: kept sets exactly, numbers to 1e-5."""
    assert [k.origin[i].tolist() for k in a.kept] == [k.origin[j].tolist() for k in b.kept]
    torch.testing.assert_close(a.hidden[i], b.hidden[j], atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(a.states, b.states, strict=True):
        torch.testing.assert_close(ours.ssm[i], theirs.ssm[j], atol=1e-5, rtol=1e-5)


def test_a_batch_equals_the_loop(lm: MambaLM, name: str) -> None:
    stages = parse(name).checked_steps(SMALL)
    together = prefill(lm, questions(0, 1, 2, 3), stages)
    for i in range(len(QUESTIONS)):
        same_row(together, i, prefill(lm, questions(i), stages), 0)


def test_an_image_that_was_run_before_its_question_answers_alike(lm: MambaLM, name: str) -> None:
    stages = parse(name).checked_steps(SMALL)
    none = rows(0, 0)
    prefix = prefill(lm, Rows.pack(IMAGES, [none] * len(IMAGES), KEYS), stages, awaits_text=True)
    asked = Rows.pack([none] * len(QUESTIONS), [rows(t, 10 + i) for i, (_, t) in enumerate(QUESTIONS)])
    resumed = prefill(lm, asked, stages, prefix.repeat(torch.tensor([image for image, _ in QUESTIONS])))
    whole = prefill(lm, questions(0, 1, 2, 3), stages)
    for i in range(len(QUESTIONS)):
        same_row(resumed, i, whole, i)


def test_it_keeps_as_many_as_the_cost_is_counted_for(lm: MambaLM, name: str) -> None:
    stages = parse(name).checked_steps(SMALL)
    ran = prefill(lm, questions(0, 1), stages)
    assert [kept.counts for kept in ran.kept] == [(n, n) for n in tokens_kept(stages, SMALL)]
    assert ran.tokens.n_visual == tuple(int(ran.tokens.visual[a:b].sum()) for a, b in ran.tokens.spans)
    assert (ran.tokens.origin[ran.tokens.visual] < SMALL.n_visual).all()


class Holder:
    """The least that a method can be switched on for."""

    shape = COBRA

    def __init__(self) -> None:
        self.method: Method | None = None


def test_switches_on_and_off_also_after_an_exception(name: str) -> None:
    holder, method = Holder(), parse(name)
    with method(holder):
        assert holder.method is method
    assert holder.method is None
    with pytest.raises(KeyError), method(holder):
        raise KeyError
    assert holder.method is None


def test_does_not_nest(name: str) -> None:
    holder, method = Holder(), parse(name)
    with method(holder), pytest.raises(ValueError, match="do not nest"), method(holder):
        pass
    assert holder.method is None
