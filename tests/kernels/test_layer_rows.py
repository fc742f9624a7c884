"""A short prefill of a layer in one call: as the layer's prefill, which the operations' own tests hold."""

import pytest
import torch
from backends import backends
from torch import Tensor

from deltaprune.blocks.mamba1 import MambaBlock, MambaState
from deltaprune.blocks.sizes import MambaConfig
from deltaprune.checkpoints.quantize import quantize_stream, quantized_in_lm
from deltaprune.kernels import layer_rows, use
from deltaprune.kernels.layer_rows import MOST_ROWS
from deltaprune.kernels.layer_rows import numba as fast
from deltaprune.kernels.quantized import FORMS
from deltaprune.kernels.quantized_matmul.numba import MOST_ROWS as READ
from deltaprune.mllm.lm import MambaLM
from deltaprune.rows import Rows, cumulate

LENGTHS = [(1,), (22,), (3, 1, 30), (0, 7), (MOST_ROWS,), (MOST_ROWS, 1)]


def made(dtype: torch.dtype, form: str | None = None, **sizes: int) -> MambaBlock:
    """A block of these sizes, its weights of a type, or quantized beside rows of it."""
    lm = MambaLM(MambaConfig(**{"d_model": 40, "n_layers": 1, "vocab_size": 8, "dt_rank": 6, **sizes}))
    lm.reset_parameters()
    lm = lm.to(dtype).requires_grad_(False)
    if form is not None:
        tensors = dict(quantize_stream(lm.state_dict().items(), quantized_in_lm(lm.config, form)))
        lm.prepare_quantized(form)
        lm.load_state_dict(tensors, assign=True)
    return lm.blocks[0]


def states(block: MambaBlock, samples: int) -> MambaState:
    empty = block.empty_state(samples)
    return MambaState(ssm=torch.randn_like(empty.ssm), conv=torch.randn_like(empty.conv))


def near(got: Tensor, want: Tensor, most: float) -> bool:
    return bool(((got.double() - want.double()).norm() <= most * want.double().norm()).item())


@pytest.mark.parametrize("backend", backends("layer_rows"))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_rows_are_a_prefill(backend: str, dtype: torch.dtype, lengths: tuple[int, ...]) -> None:
    if backend == "numba" and (fast.BACKEND.probe() or dtype not in fast.BACKEND.dtypes):
        pytest.skip("this processor or type has the reference")
    block, bounds = made(dtype), cumulate(lengths)
    x, state = torch.randn(sum(lengths), 40), states(block, len(lengths))
    kept = state.ssm.clone(), state.conv.clone()
    got = layer_rows(x, block.weights, bounds, state.ssm, state.conv, backend=backend)
    with use(selective_scan="reference"):  # hence the operations one by one
        rows, new, _ = block.prefill(Rows.pack([part[:0] for part in x.split(lengths)], list(x.split(lengths))), state)
    for a, b in zip(got, (rows.x, new.ssm, new.conv), strict=True):
        assert near(a, b, 1e-5 if dtype == torch.float32 else 2e-2)
    assert torch.equal(state.ssm, kept[0]), "the caller's states are written to"
    assert torch.equal(state.conv, kept[1]), "the caller's states are written to"


@pytest.mark.skipif(fast.BACKEND.probe() is not None, reason="this processor has the reference")
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("form", [None, *FORMS])
def test_the_bits_are_those_of_many_rows(lengths: tuple[int, ...], begins: bool, form: str | None) -> None:
    """The same sequences among more rows than one launch takes."""
    block, count = made(torch.bfloat16, form, d_model=1088, dt_rank=64), len(lengths)
    if form is not None and sum(lengths) <= READ[form]:
        pytest.skip("so few rows read the numbers as they are")
    parts = torch.randn(sum(lengths) + MOST_ROWS + 1, 1088).split((*lengths, MOST_ROWS + 1))
    state = states(block, count + 1)
    few = None if begins else MambaState(ssm=state.ssm[:count], conv=state.conv[:count])
    rows, all_rows = (Rows.pack([part[:0] for part in some], list(some)) for some in (parts[:-1], parts))
    got, ours, _ = block.prefill(rows, few)
    want, theirs, _ = block.prefill(all_rows, None if begins else state)
    assert torch.equal(got.x, want.x[: len(got.x)])
    assert torch.equal(ours.ssm, theirs.ssm[:count])
    assert torch.equal(ours.conv, theirs.conv[:count])


@pytest.mark.skipif(fast.BACKEND.probe() is not None, reason="this processor has the reference")
@pytest.mark.parametrize("sizes", [{"d_model": 1024}, {"dt_rank": 7}, {"d_conv": 1}], ids=str)
def test_sizes_that_are_summed_otherwise_go_one_by_one(sizes: dict[str, int]) -> None:
    block = made(torch.bfloat16, **sizes)
    x = torch.randn(5, block.config.d_model)
    rows = Rows.pack([x[:0]], [x])
    together, _, _ = block.prefill(rows)
    with use(layer_rows="reference"):
        alone, _, _ = block.prefill(rows)
    assert near(together.x, alone.x, 1e-3)


def test_states_of_other_samples() -> None:
    block = made(torch.float32)
    state = states(block, 2)
    with pytest.raises(ValueError, match="`layer_rows`: 1 sequences take states"):
        layer_rows(torch.randn(3, 40), block.weights, cumulate((3,)), state.ssm, state.conv)


def test_rows_of_another_width() -> None:
    with pytest.raises(ValueError, match="`layer_rows`: shapes do not fit 80 channels"):
        layer_rows(torch.randn(3, 48), made(torch.float32).weights, cumulate((3,)))


def test_boundaries_beyond_the_rows() -> None:
    with pytest.raises(ValueError, match="number of rows, 3"):
        layer_rows(torch.randn(3, 40), made(torch.float32).weights, cumulate((4,)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_state_that_is_not_contiguous(dtype: torch.dtype) -> None:
    block, x = made(dtype), torch.randn(3, 40)
    state = states(block, 1)
    turned = state.ssm.transpose(1, 2).contiguous().transpose(1, 2)
    got = layer_rows(x, block.weights, cumulate((3,)), turned, state.conv)
    want = layer_rows(x, block.weights, cumulate((3,)), state.ssm, state.conv)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gradients_reach_a_state(dtype: torch.dtype) -> None:
    block, x = made(dtype), torch.randn(3, 40)
    state = states(block, 1)
    out, _, _ = layer_rows(x, block.weights, cumulate((3,)), state.ssm.requires_grad_(True), state.conv)
    out.sum().backward()
    assert state.ssm.grad is not None
