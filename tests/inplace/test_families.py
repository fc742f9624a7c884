"""Each family against a run written out without a cache: kept rows, tokens and logits."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import written_out
from cuts import Cuts, Loud, generated, kept, pruned
from families import FAMILIES, HYBRIDS, LLAVAS, Part, make, one, prompt

import deltaprune as dp
from deltaprune.inplace.families import registry
from deltaprune.inplace.target import Target
from deltaprune.scores.last_attention import LastAttention
from deltaprune.steps import Score

pytestmark = pytest.mark.usefixtures("unchecked")
NOISE = 1e-4  # a logit is about 3; with a cache and without, unpruned, float32 differs by as much
GATED = ("qwen3_5", "qwen3_5_moe", "minicpmv4_6", "nemotron_h_omni")
family = pytest.mark.parametrize("name", FAMILIES)
TWO: tuple[tuple[Part, ...], ...] = ((7, (4, 4), 8, 9), (3, (2, 4), 5, 6, 7, (4, 2), 9, 9, 2))
SAME: tuple[tuple[Part, ...], ...] = ((7, (4, 4), 8, 9), (3, 5, 6, 7, (4, 4), 9, 9, 2))


def same(got: Any, wanted: tuple[list[int], torch.Tensor, dict[int, list[int]]], b: int = 0, pads: int = 0) -> None:
    ids, logits, target = got
    tokens, steps, rows = wanted
    assert {after: [i - pads for i in left] for after, left in kept(target, b, pads).items()} == rows
    assert ids[b].tolist() == tokens
    torch.testing.assert_close(logits[b], steps, rtol=0, atol=NOISE)


def test_every_family_is_tried() -> None:
    assert registry.names() == sorted({*FAMILIES, *(name.split("+")[0] for name in LLAVAS)})


@family
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_two_stages(name: str, attention: str) -> None:
    model, inputs = make(name, attention), one(name)
    late = len(Target(model).layers) - 2
    cuts = ((2, 0.5), (late, 0.0))
    wanted = written_out.greedy(model, inputs, dict(cuts), written_out.loudness, 4)
    same(pruned(model, Cuts(cuts), inputs), wanted)
    unpruned = generated(model, inputs)[1][0]
    assert (unpruned - wanted[1]).abs().max() > 100 * NOISE  # the test would notice rows that were not cut


@family
@pytest.mark.parametrize("after", [0, 1, 5])
def test_one_stage_anywhere(name: str, after: int) -> None:
    model, inputs = make(name, seed=1), one(name)
    wanted = written_out.greedy(model, inputs, {after: 0.25}, written_out.loudness, 4)
    same(pruned(model, Cuts(((after, 0.25),)), inputs), wanted)


@pytest.mark.parametrize("name", GATED)
@pytest.mark.parametrize("after", [2, 4, 6])
def test_delta_is_the_write_strength(name: str, after: int) -> None:
    model, inputs = make(name), one(name)
    wanted = written_out.greedy(model, inputs, {after: 0.5, 7: 0}, written_out.write_strength, 4)
    same(pruned(model, dp.DTP(keep=0.5, early=after, late=7), inputs), wanted)


@family
def test_last_attention(name: str) -> None:
    model, inputs = make(name, "eager"), one(name)
    after = 4 if name in HYBRIDS else 2
    wanted = written_out.greedy(model, inputs, {after: 0.5}, written_out.last_attention, 4)
    method = dp.FastV(keep=0.5, after=after, score="last_attention")
    same(pruned(model, method, inputs), wanted)
    same(pruned(make(name), method, inputs), wanted)  # sdpa, which never makes the matrix


@family
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_batch_is_its_samples(name: str, attention: str) -> None:
    """Several images, sizes that differ, pads on the left, text before, between and after."""
    model = make(name, attention)
    samples: Sequence[Sequence[Part]] = SAME if len(FAMILIES[name].sizes) == 1 else TWO
    inputs = prompt(name, *samples)
    for score, read in scores_for(name, attention):
        cuts = ((4, 0.5), (5, 0.25)) if isinstance(score, LastAttention) else ((2, 0.5), (5, 0.25))
        got = pruned(model, Cuts(cuts, score), inputs)
        images = 0
        for b, sample in enumerate(samples):
            alone = prompt(name, sample, seed=images)
            images += sum(not isinstance(part, int) for part in sample)
            wanted = written_out.greedy(model, alone, dict(cuts), read, 4)
            same(got, wanted, b)


def scores_for(name: str, attention: str) -> list[tuple[Score, written_out.Read]]:
    found: list[tuple[Score, written_out.Read]] = [(Loud(), written_out.loudness)]
    if name in GATED:
        found.append((dp.Delta(), written_out.write_strength))
    if attention == "eager":
        found.append((LastAttention(), written_out.last_attention))
    return found


@family
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_layers_that_the_image_passes_by(name: str, attention: str) -> None:
    """Alone, and in a batch with a stage between them."""
    model, inputs = make(name, attention), one(name)
    skipped = range(1, 6)
    wanted = written_out.greedy(model, inputs, {}, written_out.loudness, 4, skipped)
    same(pruned(model, Cuts((), skipped=tuple(skipped)), inputs), wanted)
    assert (generated(model, inputs)[1][0] - wanted[1]).abs().max() > 100 * NOISE
    samples: Sequence[Sequence[Part]] = SAME if len(FAMILIES[name].sizes) == 1 else TWO
    got = pruned(model, Cuts(((3, 0.5),), skipped=(0, 2, 4)), prompt(name, *samples))
    seed = 0
    for b, sample in enumerate(samples):
        alone = prompt(name, sample, seed=seed)
        seed += sum(not isinstance(part, int) for part in sample)
        same(got, written_out.greedy(model, alone, {3: 0.5}, written_out.loudness, 4, (0, 2, 4)), b)


@family
def test_keeping_everything_changes_no_bit(name: str) -> None:
    model, inputs = make(name), one(name)
    ids, logits, _ = generated(model, inputs)
    kept_all = pruned(model, Cuts(((2, 1.0),)), inputs)
    assert torch.equal(kept_all[0], ids)
    assert torch.equal(kept_all[1], logits)
    pruned(model, Cuts(), inputs)
    again, fresh = generated(model, inputs), generated(make(name), inputs)
    assert torch.equal(again[1], logits)
    assert torch.equal(fresh[1], logits)
