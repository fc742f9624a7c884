"""Whole prefills with a method against the same written out: one sample, one token at a time, from the description.

What a layer does is the library's; which tokens reach it is decided here, in plain Python, from the step sizes of the
layer before. Every method whose stages only rank and drop is here; `test_elsewhere` names where the others are.
"""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from own_tests import without_a_test
from slow import best_first, chance

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.methods import parse, registry
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import prefill
from deltaprune.rows import Rows
from deltaprune.steps import Plan, Shape
from deltaprune.trace import Trace

WIDTH, LAYERS, IMAGE = 24, 8, 21
SHAPE = Shape(n_layers=LAYERS, n_visual=IMAGE, plan=Plan(early=2, late=6))
SAMPLES = [(IMAGE, 5), (IMAGE, 1), (9, 3), (0, 4), (1, 7)]
KEYS = [11, 2**31 + 4, 0, 5, 6]
Importance = Callable[[Trace, int, int, int], float]  # (trace, row, its original index, the image's key)


def mean_delta(trace: Trace, row: int, origin: int, key: int) -> float:
    return math.fsum(trace["delta"][row].tolist()) / trace["delta"].shape[1]


def by_chance(seed: int) -> Importance:
    return lambda trace, row, origin, key: chance(seed, key, origin)


def evenly(trace: Trace, row: int, origin: int, key: int) -> float:
    return origin * (math.sqrt(5) - 1) / 2 % 1


# what each method does: after so many layers, this share of the image is left, by this importance
CUTS: dict[str, list[tuple[int, float, Importance | None]]] = {
    "none": [],
    "dtp:keep=0.5": [(2, 0.5, mean_delta), (6, 0, None)],
    "dtp:keep=0.7,early=1,late=none": [(1, 0.7, mean_delta)],
    "dtp:keep=1": [(2, 1, None), (6, 0, None)],
    "fastv:keep=0.3": [(2, 0.3, mean_delta)],
    "fastv:keep=0.29,after=5": [(5, 0.29, mean_delta)],
    "vtw": [(6, 0, None)],
    "random:keep=0.4,seed=3": [(2, 0.4, by_chance(3)), (6, 0, None)],
    "uniform:keep=0.45,late=none": [(2, 0.45, evenly)],
    "pyramid:keep=0.6": [(2, 0.6, mean_delta), (4, 0.6**2, mean_delta), (6, 0.6**3, mean_delta)],
}
ELSEWHERE = {
    "uniqueness": "tests/methods/test_uniqueness_method.py",  # tests/scores has a file of the shorter name
    "chosen": "tests/methods/test_chosen_pruning.py",  # tests/scores has a file of the shorter name
    "dart": "tests/scores/test_duplication.py",
    "divprune": "tests/scores/test_diversity.py",
    "mtr": "tests/methods/test_merging.py",
    "utrc": "tests/methods/test_merging.py",
    "tome": "tests/methods/test_merging.py",
}


@pytest.fixture(scope="module")
def lm() -> MambaLM:
    torch.manual_seed(0)
    model = MambaLM(MambaConfig(d_model=WIDTH, n_layers=LAYERS, vocab_size=64, d_state=4)).eval()
    model.reset_parameters()
    return model.requires_grad_(False)


def samples(tied: bool) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Images and texts; tied images are blank but for a few rows, so that many step sizes are equal to the bit."""
    torch.manual_seed(1)
    images = [torch.randn(v, WIDTH) for v, _ in SAMPLES]
    if tied:
        images = [rows * (torch.arange(len(rows)) % 7 == 3)[:, None] for rows in images]
    return [(rows, torch.randn(t, WIDTH)) for rows, (_, t) in zip(images, SAMPLES, strict=True)]


def by_hand(
    lm: MambaLM, image: torch.Tensor, text: torch.Tensor, key: int, cuts: list[tuple[int, float, Importance | None]]
) -> tuple[list[list[int]], torch.Tensor]:
    """The visual tokens left after each cut, by original index, and the last row after all layers."""
    x, origins, left = torch.cat([image, text]), list(range(len(image) + len(text))), []
    due, trace = {after: (keep, importance) for after, keep, importance in cuts}, Trace()
    for l, layer in enumerate(lm.blocks):
        if l in due and len(image):
            keep, importance = due[l]
            visual = [row for row, origin in enumerate(origins) if origin < len(image)]
            count = int(keep * len(image) + 1e-6)
            if importance is not None:
                values = [importance(trace, row, origins[row], key) for row in visual]
                visual = [visual[i] for i in best_first(values, range(len(visual)))]
            kept = sorted(visual[:count]) + [row for row, origin in enumerate(origins) if origin >= len(image)]
            x, origins = x[kept], [origins[row] for row in kept]
            left.append([origin for origin in origins if origin < len(image)])
        rows, _, trace = layer.prefill(Rows.pack([x[:0]], [x]), None, frozenset({"delta"}))
        x = rows.x
    return left, x[-1]


@pytest.mark.parametrize("tied", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize("text", CUTS)
def test_it_is_what_the_description_says(text: str, tied: bool, lm: MambaLM) -> None:
    given = samples(tied)
    tokens = Rows.pack([rows for rows, _ in given], [rows for _, rows in given], torch.tensor(KEYS))
    ran = prefill(lm, tokens, parse(text).checked_steps(SHAPE))
    for i, ((image, words), key) in enumerate(zip(given, KEYS, strict=True)):
        left, last = by_hand(lm, image, words, key, CUTS[text])
        if len(image):
            assert [stage.origin[i].tolist() for stage in ran.kept] == left
        torch.testing.assert_close(ran.hidden[i], last, atol=1e-5, rtol=1e-5)


def test_ties_are_there(lm: MambaLM) -> None:
    """After one layer of a mostly blank image, step sizes are equal: the lower index has to win."""
    image, words = samples(tied=True)[0]
    x = torch.cat([image, words])
    _, _, trace = lm.blocks[0].prefill(Rows.pack([x[:0]], [x]), None, frozenset({"delta"}))
    values = [mean_delta(trace, row, row, 0) for row in range(IMAGE)]
    assert len(set(values)) < IMAGE / 2 + 3


def test_elsewhere() -> None:
    """No method is left without an independent reference: here, or for a new one in a test file of its own name."""
    known = {text.partition(":")[0] for text in CUTS} | ELSEWHERE.keys()
    assert known <= set(registry.names())
    assert without_a_test(registry, Path(__file__).parent, known) == set()
    assert all((Path(__file__).parents[2] / file).is_file() for file in ELSEWHERE.values())
