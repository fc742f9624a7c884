"""Rule "js": its curve against really pruning after every layer, the divergence against its definition, the choice."""

from math import exp, log

import pytest
import torch

from deltaprune import DTP, UserError
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.calibrate import Spread, divergence, plan
from deltaprune.calibrate.divergence import Divergence, jensen_shannon, least


@pytest.fixture(scope="module")
def batches(tiny):
    """Three questions about two pictures, then one about another."""
    _, processor = tiny
    pictures = [next(iter(Scenes().samples("val", seed, 1))).image for seed in range(3)]
    return [
        processor(images=pictures[:2], text=["a?", "How many red circles are there?", "c c?"], image_index=[0, 1, 1]),
        processor(images=pictures[2], text="And this one?"),
    ]


def js_by_hand(p: list[float], q: list[float]) -> float:
    """From log-probabilities."""
    terms = [(exp(a), exp(b)) for a, b in zip(p, q, strict=True)]
    return sum(x * log(2 * x / (x + y)) / 2 + y * log(2 * y / (x + y)) / 2 for x, y in terms)


def next_token(vlm, inputs):
    return vlm.model.lm.logits(vlm.start(inputs).hidden).double().log_softmax(-1)


def test_against_really_pruning(tiny, batches):
    vlm, _ = tiny
    measured = divergence(vlm, batches, keep=0.25)
    expected = []
    for k in (1, 2):  # 4 layers: l = 0 and 1 of 0 <= l <= 0.25 L
        moved = []
        for inputs in batches:
            unpruned = next_token(vlm, inputs).tolist()
            with DTP(0.25, k, None)(vlm):
                pruned = next_token(vlm, inputs).tolist()
            moved += [js_by_hand(p, q) for p, q in zip(pruned, unpruned, strict=True)]
        expected.append(sum(moved) / len(moved))
    assert (measured.samples, measured.keep) == (4, 0.25)
    assert min(expected) > 1e-7  # pruning matters, so agreement says something
    assert measured.js == pytest.approx(expected, rel=1e-3)


def test_js_is_symmetric_and_at_most_log_2():
    p = torch.tensor([[0.7, 0.2, 0.1], [1.0, 1e-300, 1e-300]], dtype=torch.float64).log()
    q = torch.tensor([[0.1, 0.2, 0.7], [1e-300, 1.0, 1e-300]], dtype=torch.float64).log()
    assert jensen_shannon(p, q).tolist() == pytest.approx(jensen_shannon(q, p).tolist())
    assert jensen_shannon(p, q).tolist() == pytest.approx([js_by_hand(p[0].tolist(), q[0].tolist()), log(2)])
    assert jensen_shannon(p, p).tolist() == pytest.approx([0, 0], abs=1e-12)


def test_the_least_is_chosen_and_said():
    found = Divergence((0.3, 0.1, 0.1, 0.2), keep=0.5, samples=8)
    assert least(found).after == 2
    assert "k=2 of 1 <= k <= 4" in least(found).why
    std = tuple(1.0 + (l == 5) + 3 * (l > 13) for l in range(16))
    made = plan(Spread(std, 8), "js", divergence=found)
    assert (made.early, made.late) == (2, 14)
    assert made.source["js"] == [0.3, 0.1, 0.1, 0.2]


def test_without_its_curve_the_rule_says_what_it_needs(tiny):
    with pytest.raises(UserError, match="divergence"):
        plan(Spread((1.0,) * 16, 1), "js")
    with pytest.raises(UserError, match="nothing to calibrate on"):
        divergence(tiny[0], [])
