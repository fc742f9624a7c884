"""The map, the curve over keep, recipes and the correlation: each number against separate prefills or plain loops."""

import math

import numpy as np
import pytest
import torch

import deltaprune as dp
from deltaprune.analysis import correlation, keep_curve, recipes, sensitivity
from deltaprune.analysis.correlation import mann_whitney
from deltaprune.benchmarks.scenes import Scene
from deltaprune.errors import UserError
from deltaprune.methods.dtp import DTP
from deltaprune.mllm.processor import Inputs, Processor
from deltaprune.plan import Plan, Shape
from deltaprune.scores.readout import ReadoutNorm


@pytest.fixture(scope="module")
def inputs(tiny: tuple[dp.VLM, Processor]) -> list[Inputs]:
    _, processor = tiny
    pictures = [Scene.from_seed(seed).image for seed in range(3)]
    return [
        processor(images=pictures[:2], text=["How many?", "a"]),
        processor(images=pictures[2], text="And this one?"),
    ]


def probabilities(vlm: dp.VLM, inputs: list[Inputs], method: dp.Method | None) -> list[list[float]]:
    return [
        row
        for batch in inputs
        for row in vlm.next_logits(vlm.start(batch, method=method or "none")).double().softmax(-1).tolist()
    ]


def js(p: list[float], q: list[float]) -> float:
    def kl(a: list[float], b: list[float]) -> float:
        return math.fsum(x * math.log(x / y) for x, y in zip(a, b, strict=True) if x > 0)

    middle = [(x + y) / 2 for x, y in zip(p, q, strict=True)]
    return (kl(p, middle) + kl(q, middle)) / 2


def moved(vlm: dp.VLM, inputs: list[Inputs], method: dp.Method) -> tuple[float, float]:
    """Mean JS, and percent of equal likeliest tokens, from whole prefills."""
    pairs = list(zip(probabilities(vlm, inputs, None), probabilities(vlm, inputs, method), strict=True))
    equal = [p.index(max(p)) == q.index(max(q)) for p, q in pairs]
    return sum(js(p, q) for p, q in pairs) / len(pairs), 100 * sum(equal) / len(equal)


def test_each_pair_is_dtp_with_these_layers(tiny: tuple[dp.VLM, Processor], inputs: list[Inputs]) -> None:
    vlm, _ = tiny
    calls: list[tuple[int, int]] = []
    with dp.Downscale(0.3)(vlm):
        found = sensitivity(vlm, inputs, 0.25, score=ReadoutNorm(), on_progress=lambda *counts: calls.append(counts))
    assert (found.early, found.late, found.samples, found.keep) == ((1, 2, 3), (2, 3, 4), 3, 0.25)
    assert calls == [(i, 6) for i in range(1, 7)]
    for i, early in enumerate(found.early):
        for j, late in enumerate(found.late):
            if late <= early:
                assert np.isnan(found.js[i, j])
                assert np.isnan(found.same[i, j])
                continue
            expected, same = moved(vlm, inputs, DTP(0.25, early, None if late == 4 else late, ReadoutNorm()))
            assert found.js[i, j] == pytest.approx(expected, rel=1e-3, abs=1e-9)
            assert found.same[i, j] == pytest.approx(same)
            assert expected > 1e-6
    assert sensitivity(vlm, inputs, 1.0, (2,), (4,)).js[0, 0] == pytest.approx(0, abs=1e-9)


def test_the_curve_over_keep(tiny: tuple[dp.VLM, Processor], inputs: list[Inputs]) -> None:
    vlm, _ = tiny
    methods = [DTP(keep, 1, 3) for keep in (0.25, 0.6, 1.0)]
    found = keep_curve(vlm, inputs, methods)
    assert (found.keep, found.samples) == ((0.25, 0.6, 1.0), 3)
    for i, method in enumerate(methods):
        expected, same = moved(vlm, inputs, method)
        assert found.js[i] == pytest.approx(expected, rel=1e-3, abs=1e-9)
        assert found.same[i] == pytest.approx(same)
    spread = torch.zeros(3, 3, dtype=torch.float64)  # in layer 1, behind the early stage, of each share and sample
    b = 0
    for batch in inputs:
        rows = vlm.pack(batch)
        first, _, trace = vlm.model.lm.blocks[0].prefill(rows, None, frozenset({"step"}))
        for start, end in rows.spans:
            scores = trace["step"][start : start + 16]
            for i, keep in enumerate((0.25, 0.6, 1.0)):
                best = sorted(range(16), key=lambda j: (-float(scores[j]), j))[: int(keep * 16)]
                left = sorted(best) + list(range(16, end - start))
                alone = dp.Rows.pack([first.x[start:end][left][: len(best)]], [first.x[start + 16 : end]])
                _, _, told = vlm.model.lm.blocks[1].prefill(alone, None, frozenset({"step"}))
                values = told["step"][: len(best)].double()
                spread[i, b] = ((values - values.mean()) ** 2).mean().sqrt()
            b += 1
    np.testing.assert_allclose(found.std[:, 1], spread.mean(1), rtol=1e-3)
    np.testing.assert_allclose(found.std[2, :3], found.full[:3], rtol=1e-5)
    assert np.isnan(found.std[:, 3]).all()  # the late stage leaves none
    assert found.std[0, 0] == found.full[0]


def test_recipes() -> None:
    assert recipes(Shape(64, 729, Plan(15, 45))) == {
        "plan": (15, 45),
        "25 % and 70 %": (16, 45),
        "15 and 45 of 64": (15, 45),
    }
    assert recipes(Shape(20, 256)) == {"25 % and 70 %": (5, 14), "15 and 45 of 64": (5, 14)}
    assert recipes(Shape(4, 9))["15 and 45 of 64"] == (1, 3)
    with pytest.raises(UserError, match="A model of 3 layers is too shallow for a recipe"):
        recipes(Shape(3, 9))


def test_correlation_by_loops(tiny: tuple[dp.VLM, Processor], inputs: list[Inputs]) -> None:
    vlm, _ = tiny
    found = correlation(vlm, inputs, keep=0.25)
    assert found.spearman.shape == found.mass.shape == found.auc.shape == (4, 3)
    rows = vlm.pack(inputs[1])
    _, _, trace = vlm.model.lm.blocks[0].prefill(rows, None, frozenset({"step", "delta", "decay", "key", "query"}))
    delta, decay = trace["delta"].double(), trace["decay"].double()
    last = len(rows.x) - 1
    paid = []
    for j in range(16):
        k = torch.zeros(delta.shape[1], dtype=torch.float64)
        for n in range(decay.shape[1]):
            elapsed = delta[j + 1 :].sum(0)
            k += trace["query"][last, n] * torch.exp(decay[:, n] * elapsed) * delta[j] * trace["key"][j, n]
        paid.append(float(k.abs().mean()))
    step = trace["step"][:16].tolist()
    best = sorted(range(16), key=lambda j: (-step[j], j))[:4]
    order, by_paid = ({j: r for r, j in enumerate(sorted(range(16), key=v.__getitem__))} for v in (step, paid))
    rho = 1 - 6 * sum((order[j] - by_paid[j]) ** 2 for j in range(16)) / (16 * (16**2 - 1))
    wins = [paid[a] > paid[b] for a in best for b in range(16) if b not in best]
    assert found.spearman[0, 2] == pytest.approx(rho)
    assert found.mass[0, 2] == pytest.approx(sum(paid[j] for j in best) / sum(paid), rel=1e-3)
    assert found.auc[0, 2] == pytest.approx(sum(wins) / len(wins))
    itself = correlation(vlm, inputs, dp.HiddenAttention(), 0.25)
    assert itself.spearman.min() == pytest.approx(1)
    assert itself.auc.min() == 1
    assert (itself.mass > 0.25).all()


def test_auc_by_hand() -> None:
    values, chosen = np.array([3.0, 1.0, 2.0, 2.0]), np.array([True, False, True, False])
    assert mann_whitney(values, chosen) == (1 + 1 + 1 + 0.5) / 4


def test_mistakes(tiny: tuple[dp.VLM, Processor], inputs: list[Inputs]) -> None:
    vlm, processor = tiny
    for call in (lambda: sensitivity(vlm, []), lambda: keep_curve(vlm, [], [DTP()]), lambda: correlation(vlm, [])):
        with pytest.raises(UserError, match="nothing to measure"):
            call()
    with pytest.raises(UserError, match="There is no early layer 4: they are counted from 1 to 3 here"):
        sensitivity(vlm, inputs, early=(4,))
    with pytest.raises(UserError, match="There is no late layer 5"):
        sensitivity(vlm, inputs, late=(5,))
    blind = [processor(text="no picture")]
    for call in (lambda: sensitivity(vlm, blind), lambda: keep_curve(vlm, blind, [DTP()])):
        with pytest.raises(UserError, match="A sample has no image"):
            call()
    for keep in (0.0, 1.0, 0.01):
        with pytest.raises(UserError, match="leaves nothing to compare"):
            correlation(vlm, inputs, keep=keep)
