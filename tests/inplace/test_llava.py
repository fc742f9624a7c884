"""LLaVA with text models of five kinds: LLaMA, and the hybrids Jamba, Bamba, Granite 4 and Qwen3-Next."""

import pytest
import torch
import written_out
from cuts import Cuts, generated, pruned
from families import LLAVAS, make, one, prompt
from test_families import SAME, same
from test_inplace_write import MIXED, all_but_first, close

import deltaprune as dp
from deltaprune.inplace.target import Target
from deltaprune.scores.last_attention import LastAttention

pytestmark = pytest.mark.usefixtures("unchecked")
kinds = pytest.mark.parametrize("name", LLAVAS)
RECURRENT = sorted(LLAVAS.keys() - {"llava+llama"})


@kinds
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_stages_and_layers_passed_by(name: str, attention: str) -> None:
    model, inputs = make(name, attention), one(name)
    unpruned = generated(model, inputs)[1][0]
    for cuts, skipped in (((), (1, 2)), (((2, 0.5), (4, 0.0)), ())):
        wanted = written_out.greedy(model, inputs, dict(cuts), written_out.loudness, 4, skipped)
        same(pruned(model, Cuts(cuts, skipped=skipped), inputs), wanted)
        assert (unpruned - wanted[1]).abs().max() > 0.01
    for schedule in (all_but_first(model), MIXED):
        close(pruned(model, schedule.method, inputs), schedule.wanted(model, inputs))


@kinds
def test_a_batch_is_its_samples(name: str) -> None:
    model = make(name)
    got = pruned(model, MIXED.method, prompt(name, *SAME))
    for b, sample in enumerate(SAME):
        same(got, MIXED.wanted(model, prompt(name, sample, seed=b)), b)


@pytest.mark.parametrize("name", RECURRENT)
def test_delta(name: str) -> None:
    """Also read where image rows only write."""
    model, inputs = make(name), one(name)
    for written in ((), (0, 1)):
        wanted = written_out.greedy(model, inputs, {2: 0.5}, written_out.write_strength, 4, (), written)
        same(pruned(model, Cuts(((2, 0.5),), dp.Delta(), written=written), inputs), wanted)


@kinds
def test_last_attention(name: str) -> None:
    model, inputs = make(name, "eager"), one(name)
    after = 4 if name == "llava+next" else 3
    wanted = written_out.greedy(model, inputs, {after: 0.5}, written_out.last_attention, 4)
    same(pruned(make(name), Cuts(((after, 0.5),), LastAttention()), inputs), wanted)


@pytest.mark.parametrize("score", ["hidden_attention", "stateful", "readout", "retention", "delta_norm", "input"])
def test_scores_of_mamba1_read_jambas_roles(score: str) -> None:
    model = make("llava+jamba")
    _, logits, target = pruned(model, dp.DTP(keep=0.5, early=2, late=None, score=score), one("llava+jamba"))
    assert [kept.counts for kept in target.kept] == [(8,)]
    assert bool(torch.isfinite(logits).all())


@pytest.mark.parametrize("name", RECURRENT)
def test_image_rows_leave_out_most_of_a_layer(name: str) -> None:
    assert 0.05 < Target(make(name)).shape.write < 0.4
