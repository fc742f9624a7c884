"""The rivals are the stages that the paper compares, at the paper's MACs (Table 1, Cobra, 22 text tokens)."""

import pytest

from deltaprune.cost import macs
from deltaprune.methods import parse
from deltaprune.methods.fastv import FastV
from deltaprune.methods.uniform import UniformPruning
from deltaprune.methods.vtw import VTW
from deltaprune.models.cobra import COBRA
from deltaprune.models.robomamba import ROBOMAMBA
from deltaprune.scores.delta import Delta
from deltaprune.scores.hidden_attention import HiddenAttention
from deltaprune.scores.uniform import Uniform
from deltaprune.stages import Stage


def test_their_stages() -> None:
    assert FastV(0.7).stages(COBRA.shape) == (Stage(2, 0.7, Delta()),)
    assert parse("fastv:keep=0.5,after=3,score=hidden_attention") == FastV(0.5, 3, HiddenAttention())
    assert VTW(32).stages(COBRA.shape) == (Stage(32, 0.0),)
    assert VTW().stages(COBRA.shape) == (Stage(45, 0.0),)
    assert UniformPruning(0.5).stages(COBRA.shape) == (Stage(15, 0.5, Uniform()), Stage(45, 0.0))


@pytest.mark.parametrize(
    ("method", "printed"),
    [("fastv:keep=0.7", 1.45), ("fastv:keep=0.5", 1.06), ("vtw:after=45", 1.43), ("vtw:after=32", 1.04)],
)
def test_the_papers_macs_on_cobra(method: str, printed: float) -> None:
    assert macs(COBRA, parse(method), 22, "paper").total / 1e12 == pytest.approx(printed, abs=0.012)


@pytest.mark.parametrize(
    ("method", "printed"),
    [("fastv:keep=0.7", 0.50), ("fastv:keep=0.5", 0.37), ("vtw:after=45", 0.50), ("vtw:after=32", 0.36)],
)
def test_the_papers_macs_on_robomamba(method: str, printed: float) -> None:
    assert macs(ROBOMAMBA, parse(method), 5, "paper").total / 1e12 == pytest.approx(printed, abs=0.005)
