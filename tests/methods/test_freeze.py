"""Freeze: budgets, explicit layers, plans; and its calibration against a search written out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product

import pytest
import torch

import deltaprune as dp
from deltaprune.benchmarks.scenes import Scene
from deltaprune.calibrate import load_plan, save_plan
from deltaprune.calibrate.freezing import order, share_of
from deltaprune.calibrate.own_answers import divergence_of, flows, lesson, mean_states
from deltaprune.calibrate.thinning import BUDGETS, LEAST_KEPT, thin
from deltaprune.calibrate.trials import Trials
from deltaprune.checkpoints.folder import save_folder
from deltaprune.cost import share_of as macs_share
from deltaprune.counting import share_of_steps
from deltaprune.errors import UserError
from deltaprune.hf import DeltapruneForConditionalGeneration
from deltaprune.mean_states import FILE as MEANS
from deltaprune.mean_states import MeanStates
from deltaprune.methods import parse
from deltaprune.methods.freeze import Freeze
from deltaprune.plan import Change, Plan, Shape, Thinning
from deltaprune.scores.uniqueness import Uniqueness
from deltaprune.steps import Pass, passes_of, stages_of

COBRA = Shape(n_layers=64, n_visual=729, plan=Plan(15, 45), write=0.37)
QUESTIONS = ["How many objects are there?", "What is written on the sign?", "Is there a red star?"]


def test_a_budget_is_met_from_the_last_layer_on() -> None:
    steps = Freeze(budget=0.6).steps(COBRA)
    assert share_of_steps(steps, COBRA) <= 0.6
    written = sorted(passes_of(steps))
    assert written == list(range(written[0], 64))
    assert set(passes_of(steps).values()) == {"write"}
    fewer = {l: how for l, how in passes_of(steps).items() if l > written[0]}
    assert share_of_steps((Pass(tuple(fewer), "write"),), COBRA) > 0.6, "one layer more than needed"


def test_the_share_is_the_cost_commands() -> None:
    config = dp.load("bundled")[0].config
    for budget in (0.9, 0.7):
        method = Freeze(budget=budget)
        assert share_of_steps(method.steps(config.shape), config.shape, 30) == pytest.approx(
            macs_share(config, method, 30)
        )


def test_a_plans_order_is_followed() -> None:
    plan = Plan(1, 3, freezing=(Change(2, "write", 0.1), Change(3, "skip", 0.2), Change(2, "skip", 0.5)))
    shape = Shape(4, 100, plan, 0.4)
    assert passes_of(Freeze(budget=1).steps(shape)) == {}
    assert passes_of(Freeze(budget=0.9).steps(shape)) == {2: "write"}
    assert passes_of(Freeze(budget=0.7).steps(shape)) == {2: "write", 3: "skip"}
    assert passes_of(Freeze(budget=0.6).steps(shape)) == {2: "skip", 3: "skip"}
    with pytest.raises(UserError, match=r"budget=0.5 cannot be met by freezing in the order"):
        Freeze(budget=0.5).steps(shape)


def test_without_a_plan_a_small_budget_is_refused_and_the_default_is_not() -> None:
    shape = Shape(8, 10, None, 0.4)
    assert passes_of(Freeze().steps(shape)) == dict.fromkeys(range(1, 8), "write")
    with pytest.raises(UserError, match=r"without a calibrated order, which ends at 0\.8"):
        Freeze(budget=0.6).steps(shape)


def test_explicit_layers() -> None:
    steps = parse("freeze:write=1-3+7;skip=9").steps(COBRA)
    assert passes_of(steps) == {1: "write", 2: "write", 3: "write", 7: "write", 9: "skip"}
    assert Freeze(write=[3, 1]).steps(COBRA) == (Pass((1, 3), "write"),)


def test_with_fewer_rows() -> None:
    steps = Freeze(budget=0.4, keep=0.5).steps(COBRA)
    assert isinstance(steps[0], dp.Stage)
    assert (steps[0].after, steps[0].keep) == (1, 0.5)
    assert share_of_steps(steps, COBRA) <= 0.4


def test_a_combination_spends_the_whole_budget() -> None:
    """So many changes as the plan says, and as many rows as the budget then allows; all of them at a large budget."""
    order = tuple(Change(l, "write", 0.1) for l in range(7, 1, -1))
    plan = Plan(1, 3, freezing=order, thinning=(Thinning(0.6, 2, 6, 0.0), Thinning(0.4, 1, 3, 0.0)))
    shape = Shape(8, 100, plan, 0.4)
    for budget, changes, early in ((0.45, 3, 1), (0.35, 3, 1), (0.52, 6, 2)):
        stage, frozen = Freeze(budget=budget).steps(shape)
        assert isinstance(stage, dp.Stage)
        assert frozen == Pass(tuple(change.layer for change in order[:changes]), "write")
        assert stage.after == early
        one_more = dp.Stage(early, stage.keep + 0.01, stage.score)
        assert share_of_steps((stage, frozen), shape) <= budget < share_of_steps((one_more, frozen), shape)
    assert Freeze(budget=0.7).steps(shape) == Freeze(budget=0.7, keep=1.0).steps(shape)
    assert stages_of(Freeze(budget=0.62, keep=0.9).steps(shape))[0].keep == 0.9, "a share that is given stays"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("freeze:budget=0", "budget=0 must be a share of the MACs"),
        ("freeze:budget=1.5", "budget=1.5 must be a share"),
        ("freeze:budget=0.6,write=3", "a budget or explicit layers"),
        ("freeze:write=a-b", "write='a-b' must be a list of layers counted from 0"),
    ],
)
def test_mistakes(text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        parse(text)


@pytest.fixture(scope="module")
def given(tiny):
    vlm, processor = tiny
    images = [Scene.from_seed(seed).image for seed in (3, 4)]
    inputs = processor(images=images, text=QUESTIONS * 2, image_index=[0, 0, 0, 1, 1, 1])
    return vlm, processor, inputs, lesson(vlm, inputs, max_new_tokens=4)


@contextmanager
def at_mean(vlm, means: MeanStates, order: tuple[Change, ...] = ()) -> Iterator[None]:
    """Within it the model's plan has these mean states."""
    before = vlm.model.config
    vlm.use_plan(Plan(1, 3, {}, None, order, means=means))
    try:
        yield
    finally:
        vlm.model.config = before


def test_a_lesson_is_the_models_own_answer(given) -> None:
    vlm, _, inputs, made = given
    ids = vlm.generate(**inputs, max_new_tokens=4)
    said = [row[:n] for row, n in zip(ids, made.counts, strict=True)]
    assert torch.equal(made.log_p.argmax(-1), torch.cat(said))
    assert divergence_of(vlm.model.lm, made, flows(vlm.model.lm, made, {})[-1]) == pytest.approx(0, abs=1e-9)


def test_a_schedule_is_what_the_method_runs(given) -> None:
    """The first token's distribution under the flows of the search is that of a prefill with the passes."""
    vlm, _, inputs, made = given
    means = mean_states(vlm.model.lm, [made])
    hows = {1: "write", 2: "skip", 3: "mean"}
    last = flows(vlm.model.lm, made, hows, means=means)[-1]
    firsts = torch.tensor([0, *torch.tensor(made.counts).cumsum(0)[:-1].tolist()])
    ours = vlm.model.lm.logits(last[1].x[made.answers])[firsts]
    with at_mean(vlm, means):
        theirs = vlm.next_logits(vlm.start(inputs, method=Freeze(write=(1,), skip=(2,), mean=(3,))))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_mean_states_are_those_of_the_pictures(given) -> None:
    vlm, _, _, made = given
    means = mean_states(vlm.model.lm, [made])
    prefix = vlm.encode_image([Scene.from_seed(seed).image for seed in (3, 4)], method="none").prefilled
    for l, state in enumerate(prefix.states):
        for name, tensor in state.tensors().items():
            torch.testing.assert_close(means.layers[l][name], tensor.mean(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("store", [0, 2**31])
def test_a_trial_with_fewer_rows_is_what_the_method_runs(given, store: int) -> None:
    vlm, _, inputs, made = given
    hows, stage = {2: "write", 3: "skip"}, dp.Stage(1, 0.5, Uniqueness())
    search = Trials(vlm, [made], {}, 0.0, None, store)
    method = Freeze(write=(2,), skip=(3,), keep=0.5, early=1)
    firsts = torch.tensor([0, *torch.tensor(made.counts).cumsum(0)[:-1].tolist()])
    ours = vlm.model.lm.logits(flows(vlm.model.lm, made, hows, stage=stage)[-1][1].x[made.answers])[firsts]
    torch.testing.assert_close(ours, vlm.next_logits(vlm.start(inputs, method=method)), atol=1e-4, rtol=1e-4)
    last = flows(vlm.model.lm, made, hows, stage=stage)[-1]
    assert search(hows, stage) == pytest.approx(divergence_of(vlm.model.lm, made, last), rel=1e-4)


def test_the_best_combination_of_each_budget(given) -> None:
    """Each is the least of all that were tried, computed anew by the method's own prefill of the prompts."""
    vlm, _, _, made = given
    found = order(vlm, [made], 0.7)
    plan = Plan(1, 3, {}, None, tuple(found.changes), means=found.means)
    best = thin(vlm, plan, [made], 0.5, 2**31)
    assert [each.budget for each in best] == [budget for budget in BUDGETS if budget >= 0.5][: len(best)]
    search = Trials(vlm, [made], {}, 0.0, found.means, 0)
    shape = replace(vlm.shape, plan=plan)
    for each in best:
        tried = {}
        for changes in range(len(plan.freezing)):
            trial = replace(plan, thinning=(Thinning(each.budget, 1, changes, 0.0),))
            steps = Freeze(each.budget).steps(replace(shape, plan=trial))
            if stages_of(steps) and stages_of(steps)[0].keep >= LEAST_KEPT:
                tried[changes] = search(passes_of(steps), stages_of(steps)[0])
        assert each.js <= min(tried.values()) * (1 + 1e-6) + 1e-12


@pytest.mark.parametrize("store", [0, 2**31])
def test_the_greedy_order(given, store: int) -> None:
    """Every step takes the change with the least rise per MAC, all of them tried anew."""
    vlm, _, _, made = given
    lm, shape = vlm.model.lm, vlm.shape
    found = order(vlm, [made], 0.8, store=store)
    tokens, hows, means = len(made.text.x) / len(made.counts), {}, mean_states(lm, [made])

    def js(trial: dict) -> float:
        return divergence_of(lm, made, flows(lm, made, trial, means=means)[-1])

    for change in found.changes:
        rises = {}
        for l, how in product(range(shape.n_layers), ("write", "mean", "skip")):
            saved = share_of(hows, shape, tokens) - share_of({**hows, l: how}, shape, tokens)
            if saved > 0:
                rises[l, how] = (js({**hows, l: how}) - js(hows)) / saved
        least = min(rises.values())
        assert rises[change.layer, change.how] <= least + 0.1 * abs(least), "lazy bounds may be off, but not by far"
        hows[change.layer] = change.how
        assert change.js == pytest.approx(js(hows), rel=1e-3, abs=1e-7)
    assert found.shares[-1] <= 0.8 < (found.shares[-2] if len(found.shares) > 1 else 1)
    assert found.evaluations >= 8


def test_taken_up_again_it_ends_the_same(given) -> None:
    vlm, _, _, made = given
    whole = order(vlm, [made], 0.75)
    again = order(vlm, [made], 0.75, known=whole.changes[:1])
    assert [change[:2] for change in again.changes] == [change[:2] for change in whole.changes]


def test_a_plan_file_keeps_the_order(given, tmp_path) -> None:
    config = given[0].config
    plan = Plan(1, 3, {}, None, (Change(3, "write", 0.01), Change(1, "skip", 0.2)))
    save_plan(plan, config, tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json", config).freezing == plan.freezing
    assert not (tmp_path / "plan.means.safetensors").exists()
    text = (tmp_path / "plan.json").read_text().replace('"write"', '"wrtie"')
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(UserError, match="has a 'freezing' that is no list"):
        load_plan(tmp_path / "bad.json", config)


def test_mean_states_lie_beside_the_plan(given, tmp_path) -> None:
    vlm, _, _, made = given
    means = mean_states(vlm.model.lm, [made]).only({2, 3})
    plan, file = (
        Plan(1, 3, {}, None, (Change(3, "mean", 0.01),), {}, (Thinning(0.3, 1, 1, 0.01),), means),
        tmp_path / "plan.json",
    )
    save_plan(plan, vlm.config, file)
    again = load_plan(file, vlm.config)
    assert again == plan
    assert again.means is not None
    assert again.means.layers.keys() == {2, 3}
    torch.testing.assert_close(again.means.layers[2]["ssm"], means.layers[2]["ssm"], atol=0, rtol=0)

    mean_states(vlm.model.lm, [made]).only({2}).save(tmp_path / "plan.means.safetensors")
    with pytest.raises(UserError, match="are another plan's or damaged"):
        load_plan(file, vlm.config)
    (tmp_path / "plan.means.safetensors").unlink()
    with pytest.raises(UserError, match=r"mean states .* cannot be read"):
        load_plan(file, vlm.config)


def test_a_model_folder_keeps_mean_states(given, tmp_path) -> None:
    vlm, processor, _, made = given
    order = (Change(3, "write", 0.01), Change(2, "mean", 0.02))
    with at_mean(vlm, mean_states(vlm.model.lm, [made]).only({2}), order):
        want = vlm.generate(**given[2], max_new_tokens=4, method=Freeze(budget=0.85))
        save_folder(tmp_path / "folder", vlm.model, processor.tokenizer)
    loaded = dp.load(tmp_path / "folder")[0]
    assert passes_of(Freeze(budget=0.85).steps(loaded.shape))[2] == "mean"
    assert torch.equal(loaded.generate(**given[2], max_new_tokens=4, method=Freeze(budget=0.85)), want)
    hf = DeltapruneForConditionalGeneration.from_pretrained(tmp_path / "folder")
    hf.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / MEANS).is_file()
    again = DeltapruneForConditionalGeneration.from_pretrained(tmp_path / "again").vlm
    assert torch.equal(again.generate(**given[2], max_new_tokens=4, method=Freeze(budget=0.85)), want)


def test_without_mean_states_a_sentence_says_so(given) -> None:
    vlm, _, inputs, made = given
    with pytest.raises(UserError, match=r"There are no mean states in the model's plan: calibrate --budget finds"):
        vlm.start(inputs, method=Freeze(mean=(2,)))
    with (
        at_mean(vlm, mean_states(vlm.model.lm, [made]).only({1})),
        pytest.raises(UserError, match="of layer 2: the plan"),
    ):
        vlm.start(inputs, method=Freeze(mean=(2,)))
    with at_mean(vlm, MeanStates("unread")), pytest.raises(UserError, match="mean states of layer 2 were not read"):
        vlm.start(inputs, method=Freeze(mean=(2,)))
