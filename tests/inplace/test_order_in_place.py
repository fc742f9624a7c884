"""The order in which layers of a hybrid stop updating image rows, against a search written out."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
import written_out
from cuts import generated, pruned
from families import make, one, prompt
from torch import Tensor

import deltaprune as dp
from deltaprune.calibrate.in_place import MODES, FoundInPlace, divergence_of, extended, order_in_place, own_answer
from deltaprune.inplace.target import Target, plan_by_depth
from deltaprune.steps import passes_of

pytestmark = pytest.mark.usefixtures("unchecked")
NAMES = ("qwen3_5", "nemotron_h_omni", "lfm2_vl")


def js_written_out(model: Any, inputs: Mapping[str, Tensor], said: list[int], **layers: Any) -> float:
    """Token by token, by its definition, for one prompt."""
    total = 0.0
    for i in range(len(said)):
        p, q = (
            written_out.logits(model, inputs, said[:i], {}, written_out.loudness, {}, **changed).double().softmax(-1)
            for changed in ({}, layers)
        )
        middle = (p + q) / 2
        total += float(sum((each * (each / middle).log()).sum() for each in (p, q)) / 2)
    return total / len(said)


@pytest.mark.parametrize("name", NAMES)
def test_js_is_that_of_a_run_written_out(name: str) -> None:
    model, inputs = make(name), one(name)
    answer = own_answer(model, inputs, 3)
    said = answer.inputs["input_ids"][0, inputs["input_ids"].shape[1] :].tolist()
    said.append(int(answer.log_p[-1].argmax()))
    assert answer.count == 3
    assert answer.visual == 16
    wanted = js_written_out(model, inputs, said, written=(1, 2, 5), skipped=(4,))
    assert divergence_of(model, [answer], {1: "write", 2: "write", 5: "write", 4: "skip"}) == pytest.approx(
        wanted, rel=1e-3
    )
    assert divergence_of(model, [answer], {}) == pytest.approx(0, abs=1e-9)


def test_the_answer_is_the_unpruned_models_own() -> None:
    model, inputs = make("qwen3_5"), one("qwen3_5")
    ids = generated(model, inputs, 3)[0][0].tolist()
    answer = own_answer(model, inputs, 3)
    assert answer.inputs["input_ids"][0, -2:].tolist() == ids[:2]
    assert int(answer.inputs["mm_token_type_ids"][0, -2:].sum()) == 0
    assert int(answer.inputs["attention_mask"][0, -2:].sum()) == 2
    assert extended(inputs, torch.zeros(1, 0, dtype=torch.int64))["input_ids"].equal(inputs["input_ids"])


@pytest.mark.parametrize("name", NAMES)
def test_each_change_is_the_cheapest_at_first(name: str) -> None:
    """The first change has the least JS per MAC saved of all; later ones lower the share below the budget."""
    model, samples = make(name), [one(name), prompt(name, (7, (4, 4), 3, 8), seed=5)]
    target, told = Target(model), list[int]()
    found = order_in_place(model, samples, 0.7, max_new_tokens=3, on_change=lambda now: told.append(len(now.changes)))
    answers = [own_answer(model, sample, 3) for sample in samples]
    costs = {(l, how): divergence_of(model, answers, {l: how}) for l in range(len(target.layers)) for how in MODES}
    saved = {"write": 1 - target.shape.write, "skip": 1.0}
    best = min(costs, key=lambda change: costs[change] / saved[change[1]])
    assert found.changes[0][:2] == best
    assert found.changes[0].js == pytest.approx(costs[best], abs=1e-12)
    assert found.shares[-1] <= 0.7 < (found.shares[-2] if len(found.shares) > 1 else 1)
    assert found.shares == sorted(found.shares, reverse=True)
    assert told == list(range(1, len(found.changes) + 1))
    assert found.evaluations >= len(costs)
    ids, _, _ = pruned(model, dp.Freeze(**found.layers()), samples[0])
    assert ids.shape == (1, 4)


def test_writing_alone() -> None:
    found = order_in_place(make("smolvlm"), [one("smolvlm")], 0.8, modes=("write",), max_new_tokens=2)
    assert {change.how for change in found.changes} == {"write"}
    assert found.layers()["skip"] == ()
    assert FoundInPlace().layers() == {"write": (), "skip": ()}


def test_what_cannot_be_calibrated() -> None:
    model = make("smolvlm")
    with pytest.raises(dp.UserError, match="There is nothing to calibrate on"):
        order_in_place(model, [], 0.5)
    for sample in (prompt("smolvlm", (5, 6, 7)), prompt("smolvlm", (5, (4, 4), 6), (5, (4, 4), 6))):
        with pytest.raises(dp.UserError, match="single prompts with a picture"):
            order_in_place(model, [sample], 0.5)
    with pytest.raises(dp.UserError, match=r"budget=0.1 is out of reach: with write the least is 0\.\d+"):
        order_in_place(model, [one("smolvlm")], 0.1, modes=("write",), max_new_tokens=1)


@pytest.mark.parametrize("name", ["lfm2_vl", "qwen3_5", "llava+jamba"])
def test_the_least_budget_that_is_named_can_be_met(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named before anything is tried, and `Freeze` reaches it by the order that is then found."""
    model, sample, tried = make(name), one(name), divergence_of
    monkeypatch.setattr("deltaprune.calibrate.in_place.divergence_of", None)
    with pytest.raises(dp.UserError, match=r"budget=0\.05 is out of reach: with skip, write the") as told:
        order_in_place(model, [sample], 0.05, max_new_tokens=1)
    monkeypatch.setattr("deltaprune.calibrate.in_place.divergence_of", tried)
    least = float(str(told.value).rpartition(" ")[2].rstrip("."))
    found, shape = order_in_place(model, [sample], least, max_new_tokens=1), Target(model).shape
    assert found.shares[-1] <= least < found.shares[-2]
    plan = replace(plan_by_depth(shape.n_layers), freezing=tuple(found.changes))
    steps = dp.Freeze(least).steps(replace(shape, n_visual=16, plan=plan))
    assert passes_of(steps) == {change.layer: change.how for change in found.changes}
