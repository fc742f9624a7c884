"""The rivals are the stages that the paper compares, at the paper's MACs (Table 1, Cobra, 22 text tokens)."""

import pytest

from deltaprune.cost import macs
from deltaprune.errors import UserError
from deltaprune.methods import parse
from deltaprune.methods.dart import DART
from deltaprune.methods.divprune import DivPrune
from deltaprune.methods.fastv import FastV
from deltaprune.methods.mtr import MTR
from deltaprune.methods.pyramid import Pyramid
from deltaprune.methods.tome import ToMe
from deltaprune.methods.uniform import UniformPruning
from deltaprune.methods.utrc import UTRC
from deltaprune.methods.vtw import VTW
from deltaprune.models.cobra import COBRA
from deltaprune.models.robomamba import ROBOMAMBA
from deltaprune.scores.delta import Delta
from deltaprune.scores.hidden_attention import HiddenAttention
from deltaprune.scores.output import OutputNorm
from deltaprune.scores.uniform import Uniform
from deltaprune.steps import Method, Shape, Stage


def test_their_stages() -> None:
    assert FastV(0.7).steps(COBRA.shape) == (Stage(2, 0.7, Delta()),)
    assert parse("fastv:keep=0.5,after=3,score=hidden_attention") == FastV(0.5, 3, HiddenAttention())
    assert VTW(32).steps(COBRA.shape) == (Stage(32, 0.0),)
    assert VTW().steps(COBRA.shape) == (Stage(45, 0.0),)
    assert UniformPruning(0.5).steps(COBRA.shape) == (Stage(15, 0.5, Uniform()), Stage(45, 0.0))
    cuts = ((15, 0.5), (30, 0.25), (45, 0.125))
    assert Pyramid(0.5).steps(COBRA.shape) == tuple(Stage(after, keep, Delta()) for after, keep in cuts)
    pyramid_drop = Pyramid(0.5, early=8, score=HiddenAttention()).steps(COBRA.shape)
    assert [(stage.after, stage.keep) for stage in pyramid_drop] == [(8, 0.5), (16, 0.25), (24, 0.125)]


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("dart:keep=0.44,after=3,pivots=delta,exact_budget=true", DART(0.44, 3, "delta", True)),
        ("divprune:keep=0.3", DivPrune(0.3)),
        ("pyramid:keep=0.6,early=2,drops=2,score=output", Pyramid(0.6, 2, 2, OutputNorm())),
        ("mtr:keep=0.6,early=3,late=plan", MTR(0.6, 3, "plan")),
        ("utrc:keep=0.6;early=12;until=43;every=5;q=0.2", UTRC(0.6, 12, 43, 5, 0.2)),
        ("tome:keep=0.6,early=plan,until=9,every=1", ToMe(0.6, "plan", 9, 1)),
    ],
)
def test_their_text_forms(text: str, method: Method) -> None:
    assert parse(text) == method


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("dart:keep=1.5", "between 0 and 1"),
        ("dart:after=plan", "it is an integer from 0 up"),
        ("dart:pivots=K", "There is no pivots='K': the known ones are B, delta, random, x."),
        ("dart:exact_budget=1", "exact_budget=1 is neither on nor off: it is true or false."),
        ("dart:after=0", "acts before any layer"),
        ("divprune:keep=none", "not a number"),
        ("pyramid:drops=0", "drops=0 is not possible: it is a whole number from 1 up."),
        ("pyramid:drops=5", "A stage after layer 75 lies beyond the model"),
        ("pyramid:early=0", "acts before any layer"),
        ("mtr:late=20,early=30", "early=30 is not below late=20"),
        ("utrc:q=2", "q=2 is not a share: it lies between 0 and 1 (try q=1)."),
        ("utrc:every=0.5", "every=0.5 is not possible: it is a whole number from 1 up."),
        ("tome:until=none", "until=None is not a layer"),
        ("tome:early=45", "There is no layer from early=45 to below until=45: try until=46."),
    ],
)
def test_mistakes_end_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        parse(text).checked_steps(COBRA.shape)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_without_a_plan_names_the_field() -> None:
    with pytest.raises(UserError, match='until="plan", but this model has no plan: give until=LAYER'):
        ToMe(early=2).steps(Shape(n_layers=8, n_visual=10))


@pytest.mark.parametrize(
    ("method", "printed"),
    [
        ("fastv:keep=0.7", 1.45),
        ("fastv:keep=0.5", 1.06),
        ("vtw:after=45", 1.43),
        ("vtw:after=32", 1.04),
        ("dart:keep=0.66", 1.38),
        ("dart:keep=0.44", 0.96),
    ],
)
def test_the_papers_macs_on_cobra(method: str, printed: float) -> None:
    assert macs(COBRA, parse(method), 22, "paper").total / 1e12 == pytest.approx(printed, abs=0.012)


@pytest.mark.parametrize(
    ("method", "printed"),
    [("fastv:keep=0.7", 0.50), ("fastv:keep=0.5", 0.37), ("vtw:after=45", 0.50), ("vtw:after=32", 0.36)],
)
def test_the_papers_macs_on_robomamba(method: str, printed: float) -> None:
    assert macs(ROBOMAMBA, parse(method), 5, "paper").total / 1e12 == pytest.approx(printed, abs=0.005)
