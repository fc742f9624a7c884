"""FitPrune: its statistics token by token, the recipe that a budget asks for, and what the plan carries."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

import deltaprune as dp
from deltaprune.analysis.layers import traces
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.calibrate import fitting, load_plan, save_plan
from deltaprune.counting import share_of_steps, visual_tokens_per_layer
from deltaprune.errors import UserError
from deltaprune.methods import parse
from deltaprune.methods.fitprune import LEVELS, FitPrune, between, key
from deltaprune.mllm.processor import Processor
from deltaprune.scores.delta import Delta
from deltaprune.scores.hidden_attention import HiddenAttention
from deltaprune.steps import Plan, Shape, Stage

FOUND = {key(level): (0.0, level, level**0.5, 0.0, 0.9) for level in LEVELS}
MEASURED = Shape(5, 20, Plan(1, 4, found=FOUND))


@pytest.fixture(scope="module")
def batches(tiny: tuple[dp.VLM, Processor]) -> list:
    _, processor = tiny
    pictures = [next(iter(Scenes().samples("val", seed, 1))).image for seed in range(3)]
    return [processor(images=pictures[:2], text=["a?", "How many?"]), processor(images=pictures[2], text="And this?")]


def fits(received: list[float], alpha: float) -> set[int]:
    """The most tokens of least attention that together have at most alpha of it."""
    chosen, total = set(), 0.0
    for j in sorted(range(len(received)), key=lambda j: received[j]):
        total += received[j]
        if total > alpha * math.fsum(received) + 1e-9:
            break
        chosen.add(j)
    return chosen


def paid(delta: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> list[list[float]]:
    """|K| by the recurrence, a unit input at a time; mean over channels, each row made to sum to 1."""
    length = len(delta)
    matrix = [[0.0] * length for _ in range(length)]
    for j in range(length):
        h = delta[j][:, None] * b[j]
        for i in range(j, length):
            if i > j:
                h = torch.exp(delta[i][:, None] * a) * h
            matrix[i][j] = float((h @ c[i]).abs().mean())
    return [[value / math.fsum(row) for value in row] for row in matrix]


def test_its_statistics_are_those_of_the_written_out_attention(tiny: tuple[dp.VLM, Processor], batches: list) -> None:
    vlm, _ = tiny
    shares: dict[float, list[list[float]]] = {level: [[] for _ in range(4)] for level in LEVELS}
    for inputs in batches:
        rows = vlm.pack(inputs)
        for k, _, trace in traces(vlm, rows, frozenset({"delta", "decay", "key", "query"})):
            every = max(1, trace["delta"].shape[1] // 32)
            for (start, end), n in zip(rows.spans, rows.n_visual, strict=True):
                delta, b, c = (trace[role][start:end].double() for role in ("delta", "key", "query"))
                matrix = paid(delta[:, ::every], trace["decay"][::every].double(), b, c)
                visual = [math.fsum(row[j] for row in matrix[:n]) for j in range(n)]
                text = [math.fsum(row[j] for row in matrix[n:]) for j in range(n)]
                for level in LEVELS:
                    shares[level][k - 1].append(len(fits(visual, level) & fits(text, level)) / n)
    found = fitting(vlm, batches)
    assert list(found) == [key(level) for level in LEVELS]
    for level in LEVELS:
        assert found[key(level)] == pytest.approx([sum(each) / 3 for each in shares[level]], abs=1e-12)
    assert 0 < found[key(LEVELS[9])][0] < 1
    with dp.DTP(0.5)(vlm):
        assert fitting(vlm, batches) == found


def test_a_recipe_by_hand() -> None:
    """Behind layer l a token is left where no layer so far could let it go; one alpha holds for all layers."""
    alphas = [i / 10_000 for i in range(10_001)]

    def left(alpha: float) -> list[int]:
        per_layer = [0.0, between(alpha, LEVELS), between(alpha, [level**0.5 for level in LEVELS]), 0.0]
        return [20 - int(max(per_layer[:k], default=0.0) * 20 + 1e-6) for k in range(5)]

    spent = {alpha: (sum(left(alpha)) + 5 * 22) / (5 * 42) for alpha in alphas}
    alpha = min(alpha for alpha in alphas if spent[alpha] <= 0.8)
    steps = FitPrune(0.8, Delta()).steps(MEASURED)
    assert visual_tokens_per_layer(steps, MEASURED) == left(alpha)
    assert [stage.score for stage in steps] == [Delta()] * len(steps)
    assert share_of_steps(steps, MEASURED) <= 0.8
    assert len(steps) == 2  # behind the second layer and the third, the only ones that let more go


@pytest.mark.parametrize("shape", [Shape(5, 20), Shape(64, 729), Shape(20, 256)], ids=["small", "cobra", "bundled"])
def test_a_larger_budget_is_spent_and_keeps_more(shape: Shape) -> None:
    least = share_of_steps((Stage(1, 0.0),), shape)
    budgets = [least + 1e-3 + i / 12 for i in range(12) if least + 1e-3 + i / 12 <= 1]
    rows = [visual_tokens_per_layer(FitPrune(budget).steps(shape), shape) for budget in budgets]
    for fewer, more in pairwise(rows):
        assert all(a <= b for a, b in zip(fewer, more, strict=True))
    assert all(share_of_steps(FitPrune(budget).steps(shape), shape) <= budget for budget in budgets)
    assert FitPrune(1.0).steps(shape) == ()
    assert FitPrune().steps(shape) == (FitPrune(0.6).steps(shape) if least < 0.6 else (Stage(1, 0.0),))
    with pytest.raises(UserError, match=r"is below what dropping all tokens costs: give at least 0\."):
        FitPrune(least - 1e-3).steps(shape)


def test_its_text_form_and_a_plan_that_carries_the_statistics(tiny: tuple[dp.VLM, Processor], tmp_path) -> None:
    assert parse("fitprune:budget=0.4,score=delta") == FitPrune(0.4, Delta())
    assert FitPrune().score == HiddenAttention()
    with pytest.raises(UserError, match="budget=0 must be a share of the MACs"):
        parse("fitprune:budget=0")
    vlm, file = tiny[0], tmp_path / "plan.json"
    assert vlm.config.plan is not None
    found = {key(level): [level / 2, level, level, level] for level in LEVELS}
    plan = replace(vlm.config.plan, found=found)
    save_plan(plan, vlm.config, file)
    read = load_plan(file, vlm.config)
    shape = replace(vlm.shape, plan=read)
    assert (
        FitPrune(0.8).steps(shape) == FitPrune(0.8).steps(replace(shape, plan=plan)) != FitPrune(0.8).steps(vlm.shape)
    )
    with pytest.raises(UserError, match="calibrate again"):
        FitPrune().steps(replace(shape, n_layers=5))
