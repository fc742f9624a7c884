"""Budgets against trying every number of tokens, for every method, and the sentences for what cannot be."""

import subprocess
import sys
from dataclasses import fields, replace
from math import floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaprune import DTP, VTW, FastV, NoPruning, UserError
from deltaprune.calibrate import budget
from deltaprune.cost import share_of, visual_tokens_per_layer
from deltaprune.methods import parse, registry
from deltaprune.models.cobra import COBRA
from deltaprune.models.robomamba import ROBOMAMBA

METHODS = [
    name for name in registry.names() if {f.name for f in fields(registry[name])} & {"keep", "budget"} == {"keep"}
]
SHARES = (0.3, 0.48, 0.5, 0.67)


def shares_of_every_count(config, name: str, text_tokens: float) -> list[float]:
    """The share at keep = 0/n, 1/n, .. n/n."""
    n = config.n_visual
    return [share_of(config, parse(f"{name}:keep={k / n}"), text_tokens) for k in range(n + 1)]


@pytest.mark.parametrize("config", [COBRA, ROBOMAMBA], ids=lambda config: config.name)
@pytest.mark.parametrize("name", METHODS)
def test_against_trying_every_number_of_tokens(name, config):
    everything = shares_of_every_count(config, name, 22)
    assert everything == sorted(everything)  # what the bisection relies on
    for share in SHARES:
        within = [each for each in everything if each <= share]
        if len(within) in (0, len(everything)):
            with pytest.raises(UserError, match=f"{name} cannot meet a MACs share of {share} on {config.name}"):
                budget(config, name, share, 22)
            continue
        met = budget(config, name, share, 22)
        assert within[-1] <= met.share <= share  # several stages may spend a little more at the same last count
        if len(met.kept) < 2 or met.kept[1] == 0:
            assert met.share == within[-1]
        assert share_of(config, parse(met.label), 22) == met.share  # the text asks for the same again
        assert parse(met.label) == met.method
        assert met.method.keep == met.value


@pytest.mark.parametrize("share", [1.0, 0.9, 0.62, 0.5, 0.4])
def test_the_fewest_frozen_layers_that_meet_it(share):
    def cost(layers: int) -> float:
        return share_of(COBRA, parse(f"shortv:share={layers / 64}"), 22)

    met = budget(COBRA, "shortv", share, 22)
    layers = floor(met.value * 64 + 1e-6)
    assert met.share == cost(layers) <= share
    assert layers == 0 or cost(layers - 1) > share
    assert parse(met.label) == met.method
    assert met.method.share == met.value
    with pytest.raises(UserError, match=r"shortv cannot meet a MACs share of 0.3 .* at share=1"):
        budget(COBRA, "shortv", 0.3, 22)


def test_by_hand():
    """Cobra, 22 text tokens: 64 (729 + 22) = 48,064 rows. FastV keeps n: 2 * 729 + 62 n + 64 * 22 <= 0.48 * 48,064."""
    n = floor((0.48 * 48_064 - 2 * 729 - 64 * 22) / 62)
    met = budget(COBRA, FastV(), 0.48, 22)
    assert met.kept == [n] == [325]
    assert met.share == (2 * 729 + 62 * n + 64 * 22) / 48_064
    assert met.label == repr(FastV(keep=0.446))


def test_other_fields_stay():
    met = budget(COBRA, " dtp:early=10;late=none ", 0.48, 22)
    assert met.label.startswith("dtp:early=10;late=none,keep=")
    assert met.method == replace(DTP(early=10, late=None), keep=met.value)
    assert budget(COBRA, DTP(keep=0.9, early=10, late=None), 0.48, 22).method == met.method


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 729))
def test_the_keep_has_few_digits_and_names_these_tokens(tokens):
    exact = DTP(keep=tokens / 729)
    met = budget(COBRA, DTP(), share_of(COBRA, exact, 22), 22)
    for method in (exact, met.method):
        assert visual_tokens_per_layer(method.steps(COBRA.shape), COBRA.shape)[20] == tokens
    assert met.value == round(met.value, 3)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.48, 0.713, 1.0])
def test_vtw_gets_the_nearest_layer(share):
    distances = [abs(share_of(COBRA, VTW(k), 22) - share) for k in range(64)]
    met = budget(COBRA, "vtw", share, 22)
    assert (met.knob, met.value) == ("after", distances.index(min(distances)))
    assert met.label == f"vtw:after={met.value}"


@pytest.mark.parametrize(
    ("share", "nearest", "keep"), [(0.2, 0.2569, "keep=0"), (0.9, 0.7118, "keep=1")], ids=["too little", "too much"]
)
def test_a_budget_out_of_reach(share, nearest, keep):
    with pytest.raises(UserError, match=f"dtp cannot meet a MACs share of {share} on cobra.*{nearest}, at {keep};"):
        budget(COBRA, "dtp", share, 22)
    met = budget(COBRA, "dtp", nearest, 22)
    assert met.share == pytest.approx(nearest, abs=1e-3)
    with pytest.raises(UserError, match="DTP cannot meet"):
        budget(COBRA, DTP(), share, 22)


@pytest.mark.parametrize(
    ("method", "share", "message"),
    [
        ("dtp", 0.0, r"share 0 is no share of the MACs: it lies above 0 and not above 1 \(try 0.5\)"),
        ("dtp", 48, r"share 48 is no share .*\(try 0.48\)"),
        ("dtp", float("nan"), "share nan is no share"),
        ("dtp:keep=0.5", 0.5, "already gives keep, which the budget is to find: leave it out"),
        ("vtw:after=3", 0.5, "already gives after"),
        ("none", 0.5, "none has neither keep nor after"),
        (NoPruning(), 0.5, "NoPruning has neither keep nor after"),
        ("dpt", 0.5, "did you mean 'dtp'"),
        ("dtp:erly=3", 0.5, "did you mean 'early'"),
        ("dtp:early=64", 0.5, "beyond the model"),
    ],
    ids=repr,
)
def test_mistakes(method, share, message):
    with pytest.raises(UserError, match=message):
        budget(COBRA, method, share, 22)


def test_a_model_without_a_plan():
    bare = replace(COBRA, plan=None)
    with pytest.raises(UserError, match="this model has no plan: give early=LAYER or run calibrate first"):
        budget(bare, "dtp", 0.5, 22)
    assert budget(bare, "dtp:early=15,late=45", 0.5, 22).share <= 0.5


def test_it_imports_no_more_than_it_needs():
    heavy = "{'transformers', 'numba', 'rich'}"
    code = f"import sys, deltaprune.calibrate.budget; print(sorted({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("text_tokens", [5, 22, 300])
def test_freeze_spends_a_budget_of_its_own(text_tokens: int) -> None:
    found = budget(COBRA, "freeze", 0.7, text_tokens)
    assert found.knob == "budget"
    assert found.share <= 0.7 + 1e-9
    assert found.share == share_of(COBRA, found.method, text_tokens)
    assert found.label == f"freeze:budget={found.value:g}"
    with pytest.raises(UserError, match=r"freeze cannot meet a MACs share of 0.2 on cobra: the nearest") as told:
        budget(COBRA, "freeze", 0.2, text_tokens)
    nearest = float(str(told.value).split("it reaches is ")[1].split(",")[0])
    assert budget(COBRA, "freeze", nearest, text_tokens).share <= nearest
