"""A table of layer times: what it says of a schedule, where it holds, and the budgets that are met by it."""

from dataclasses import asdict, replace

import pytest
import torch

import deltaprune as dp
from deltaprune.calibrate import load_plan, save_plan
from deltaprune.calibrate.budget import budget, budget_ms
from deltaprune.cost.layer_times import check_times, layer_times
from deltaprune.cost.machine import processor
from deltaprune.counting import ms_of_steps
from deltaprune.errors import UserError
from deltaprune.plan import Change, LayerTimes, Plan, Shape
from deltaprune.steps import Pass, passes_of

CPU = processor(torch.device("cpu"))
TIMES = LayerTimes("cpu", CPU, torch.get_num_threads(), "float32", 16, 7, full=1.0, write=0.5, mean=0.2, skip=0.1)


def test_a_schedule_is_the_sum_of_its_layers() -> None:
    shape = Shape(6, 16, Plan(1, 3), 0.4)
    assert ms_of_steps((), shape, TIMES) == pytest.approx(6.0)
    steps = (Pass((1, 2), "write"), Pass((3,), "skip"))
    assert ms_of_steps(steps, shape, TIMES) == pytest.approx(3 * 1.0 + 2 * 0.5 + 0.1)
    half = (dp.Stage(2, 0.5, dp.Delta()), Pass((4,), "write"), dp.Stage(5, 0.0))
    line = [1.0, 1.0, 0.55, 0.55, 0.3, 0.1]  # from the text alone on a straight line
    assert ms_of_steps(half, shape, TIMES) == pytest.approx(sum(line))


def test_what_is_measured(tiny) -> None:
    vlm, _ = tiny
    told = []
    found = layer_times(vlm, 7, rounds=2, on_round=lambda *done: told.append(done))
    assert (found.device, found.processor, found.n_visual, found.text_tokens) == ("cpu", CPU, vlm.config.n_visual, 7)
    assert all(0 < getattr(found, name) < 1000 for name in ("full", "write", "mean", "skip"))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert check_times(found, vlm.config.n_visual) is found
    with pytest.raises(UserError, match="text_tokens=0 must be at least 1"):
        layer_times(vlm, 0)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"processor": "an abacus"}, "were measured for processor an abacus, not"),
        ({"threads": 99}, "were measured for threads 99, not"),
        ({"n_visual": 729}, "were measured for n_visual 729, not 16: measure here with deltaprune calibrate"),
        ({"text_tokens": 30}, "were measured for text_tokens 30, not 7"),
        ({"device": "cuda", "processor": "a GPU"}, "were measured for processor a GPU, not"),
    ],
)
def test_a_table_of_something_else_is_refused(changed: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check_times(replace(TIMES, **changed), 16, 7)
    with pytest.raises(UserError, match="has no layer times"):
        check_times(None, 16)


@pytest.fixture
def config(tiny):
    order = (Change(3, "write", 0.1), Change(2, "write", 0.2), Change(3, "skip", 0.3), Change(1, "write", 0.4))
    return replace(tiny[0].config, plan=Plan(1, 3, freezing=order, times=TIMES))


def test_milliseconds_are_met_by_as_many_changes_as_it_takes(config) -> None:
    for ms, layers in ((4.0, ()), (3.5, ("write",)), (3.0, ("write", "write")), (2.2, ("skip", "write", "write"))):
        found = budget_ms(config, "freeze", ms)
        assert found.ms is not None
        assert found.ms <= ms
        assert sorted(passes_of(found.method.steps(config.shape)).values()) == sorted(layers)
    with pytest.raises(UserError, match=r"freeze cannot meet 0.5 ms on tiny"):
        budget_ms(config, "freeze", 0.5)
    with pytest.raises(UserError, match="ms 0 is no time"):
        budget_ms(config, "freeze", 0)


def test_every_method_can_be_asked(config) -> None:
    kept = budget_ms(config, "dtp:early=1,late=none", 2.5)
    assert kept.ms == pytest.approx(1.0 + 3 * (0.1 + 0.9 * kept.kept[0] / 16))
    assert kept.kept[0] == 7  # 8 would take 2.65
    assert budget_ms(config, "vtw", 2.2).value == 2
    with pytest.raises(UserError, match=r"dtp cannot meet 9 ms on tiny: the nearest it reaches is 3\.1, at keep=1"):
        budget_ms(config, "dtp", 9.0)
    assert budget(config, "dtp", 0.7, 7).ms is None


def test_a_plan_keeps_its_table(config, tmp_path) -> None:
    save_plan(config.plan, config, tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json", config).times == TIMES
    assert Plan(**config.plan.to_dict()) == config.plan
    text = (tmp_path / "plan.json").read_text()
    for old, new in (('"full": 1.0', '"full": -1.0'), ('"full": 1.0', '"full": "1"'), ('"full"', '"whole"')):
        (tmp_path / "bad.json").write_text(text.replace(old, new))
        with pytest.raises(UserError, match="has a 'times' that is no table of layer times"):
            load_plan(tmp_path / "bad.json", config)


def test_times_are_no_part_of_what_a_model_answers(tiny) -> None:
    vlm, _ = tiny
    before, plan = vlm.fingerprint, vlm.config.plan
    assert plan is not None
    try:
        vlm.use_plan(replace(plan, times=TIMES))
        assert vlm.fingerprint == before
    finally:
        vlm.use_plan(plan)
    assert asdict(TIMES)["full"] == 1.0
