"""A token through the whole LM in one call: as its operations one by one, which the layers' own tests hold."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from backends import backends
from torch import Tensor

from deltaprune.blocks.mamba1 import MambaState
from deltaprune.blocks.sizes import MambaConfig
from deltaprune.checkpoints.quantize import quantize_stream, quantized_in_lm
from deltaprune.cuda_graphs.step import stepping
from deltaprune.kernels import TokenWeights, token_step, use
from deltaprune.kernels.layer_step.numba import MOST_SAMPLES
from deltaprune.mllm.lm import MambaLM
from deltaprune.walk import decode

CONFIG = MambaConfig(d_model=64, n_layers=3, vocab_size=50, dt_rank=32)
KINDS = ["float32", "bfloat16", "int8 x float32", "int8 x bfloat16", "int4 x float32", "int4 x bfloat16"]
APART = {"float32": 1e-5, "bfloat16": 2e-2}


def made(kind: str) -> MambaLM:
    """A small LM with random weights, of a type of torch's or quantized."""
    form, _, dtype = kind.rpartition(" x ")
    lm = MambaLM(CONFIG)
    lm.reset_parameters()
    lm = lm.to(getattr(torch, dtype)).requires_grad_(False)
    if form:
        tensors = dict(quantize_stream(lm.state_dict().items(), quantized_in_lm(CONFIG, form)))
        lm.prepare_quantized(form)
        lm.load_state_dict(tensors, assign=True)
    return lm


def states(lm: MambaLM, batch: int) -> list[MambaState]:
    return [
        MambaState(ssm=torch.randn_like(empty.ssm), conv=torch.randn_like(empty.conv))
        for empty in (block.empty_state(batch) for block in lm.blocks)
    ]


def distance(got: Tensor, want: Tensor) -> float:
    return ((got.double() - want.double()).norm() / want.double().norm()).item()


@pytest.mark.parametrize("backend", backends("token_step"))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 3, MOST_SAMPLES, MOST_SAMPLES + 1])
def test_a_token_is_the_layers_one_by_one(backend: str, kind: str, batch: int) -> None:
    lm, ids = made(kind), torch.randint(CONFIG.vocab_size, (batch,))
    given = states(lm, batch)
    kept = [tensor.clone() for state in given for tensor in state.tensors().values()]
    with use(token_step=backend):
        got, ours = lm.prepared_step()(ids, given)
    want, theirs = decode(lm, ids, given)
    assert got.shape == want.shape
    most = APART[kind.rpartition(" x ")[2]]
    assert distance(got, want) <= most
    for a, b in zip(ours, theirs, strict=True):
        assert distance(a.tensors()["ssm"], b.tensors()["ssm"]) <= most
        assert distance(a.tensors()["conv"], b.tensors()["conv"]) <= most
    after = [tensor for state in given for tensor in state.tensors().values()]
    assert all(torch.equal(a, b) for a, b in zip(after, kept, strict=True)), "the caller's states are written to"


@pytest.mark.parametrize("kind", KINDS)
def test_the_bits_of_a_layer_are_those_of_its_own_launch(kind: str) -> None:
    """The states, which no norm of another library stands before."""
    lm, ids = made(kind), torch.randint(CONFIG.vocab_size, (2,))
    given = states(lm, 2)
    _, together = lm.prepared_step()(ids, given)
    _, alone = decode(lm, ids, given)
    for a, b in zip(together, alone, strict=True):
        assert torch.equal(a.tensors()["ssm"], b.tensors()["ssm"])
        assert torch.equal(a.tensors()["conv"], b.tensors()["conv"])


@pytest.mark.parametrize("kind", KINDS)
def test_in_place_and_in_any_company(kind: str) -> None:
    lm, ids = made(kind), torch.tensor([7, 3])
    given, step = states(lm, 2), lm.prepared_step()
    want, _ = step(ids, given)
    alone, _ = step(ids[1:], [MambaState(ssm=s.ssm[1:], conv=s.conv[1:]) for s in given])
    assert torch.equal(alone[0], want[1])
    got, new = step(ids, given, in_place=True)
    assert torch.equal(got, want)
    assert new[0].tensors()["ssm"].data_ptr() == given[0].ssm.data_ptr()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_gives_the_same(threads: int) -> None:
    lm, before = made("bfloat16"), torch.get_num_threads()
    given, ids = states(lm, 2), torch.tensor([1, 2])
    want, _ = lm.prepared_step()(ids, given)
    try:
        torch.set_num_threads(threads)
        got, _ = lm.prepared_step()(ids, given)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(got, want)


def test_a_backend_of_the_layers_that_is_forced_is_used() -> None:
    lm, ids = made("bfloat16"), torch.tensor([5])
    given = states(lm, 1)
    with use(layer_step="reference"):
        got, _ = lm.prepared_step()(ids, given)
        want, _ = decode(lm, ids, given)
    assert torch.equal(got, want)


@pytest.mark.parametrize("token", [-1, 56])
@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_a_token_that_the_embedding_lacks(token: int, backend: str) -> None:
    lm = made("float32")
    with use(token_step=backend), pytest.raises(IndexError):
        lm.prepared_step()(torch.tensor([token]), states(lm, 1))


def test_too_few_states() -> None:
    lm = made("float32")
    with pytest.raises(ValueError, match=r"`token_step`: 3 layers take states \(2, 128, 16\) and \(2, 128, 3\) each"):
        lm.prepared_step()(torch.tensor([1, 2]), states(lm, 2)[:2])


def test_layers_of_different_sizes() -> None:
    lm = made("float32")
    first, *others = (block.weights for block in lm.blocks)
    wide = replace(first, A_log=torch.zeros(128, 8))
    with pytest.raises(ValueError, match="2 different sizes"):
        TokenWeights(lm.backbone.embedding.weight, [wide, *others], lm.backbone.norm_f.weight, 1e-5)


def test_an_embedding_of_another_width() -> None:
    lm = made("float32")
    with pytest.raises(ValueError, match="shapes do not fit layers of width 64"):
        TokenWeights(torch.zeros(56, 96), [b.weights for b in lm.blocks], torch.ones(96), 1e-5)


def test_a_layer_of_another_type() -> None:
    """Its arrays are not the first layer's elsewhere in memory."""
    lm, ids = made("bfloat16"), torch.tensor([5])
    lm.blocks[1].float()
    given = states(lm, 1)
    got, _ = lm.prepared_step()(ids, given)
    want, _ = decode(lm, ids, given)
    assert distance(got, want) <= APART["bfloat16"]


def test_a_layer_whose_numbers_lie_apart() -> None:
    lm, ids = made("float32"), torch.tensor([5])
    lm.blocks[1].mixer.D.data = torch.randn(256)[::2]
    given = states(lm, 1)
    got, _ = lm.prepared_step()(ids, given)
    want, _ = decode(lm, ids, given)
    assert distance(got, want) <= APART["float32"]


@pytest.mark.parametrize("trained", ["layer", "state"])
def test_gradients_reach_layers_and_states(trained: str) -> None:
    """Where the embedding and the final norm need none."""
    lm, given = made("float32"), states(made("float32"), 1)
    tensor = lm.blocks[1].mixer.out_proj.weight if trained == "layer" else given[1].ssm
    tensor.requires_grad_(True)
    logits, _ = lm.prepared_step()(torch.tensor([5]), given)
    logits.sum().backward()
    assert tensor.grad is not None


def test_a_float64_model_has_the_reference() -> None:
    lm = made("float32").double()
    weights = TokenWeights(
        lm.backbone.embedding.weight, [b.weights for b in lm.blocks], lm.backbone.norm_f.weight, CONFIG.norm_eps
    )
    pairs: list[Any] = [(s.ssm.double(), s.conv) for s in states(lm, 1)]
    logits, _ = token_step(torch.tensor([4]), weights, pairs)
    assert logits.dtype == torch.float64


def test_many_tokens_in_a_row_are_a_prefill() -> None:
    lm = made("float32")
    ids = torch.randint(CONFIG.vocab_size, (1, 6))
    want = lm(ids)
    with stepping(lm, [block.empty_state(1) for block in lm.blocks]) as step:
        got = torch.stack([step(token).clone() for token in ids[0].split(1)], 1)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
