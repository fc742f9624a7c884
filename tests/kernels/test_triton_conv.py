"""The Triton convolution against torch's own in float64."""

import pytest
import torch
from test_causal_conv1d import cut, inputs, truth
from triton_cases import poisoned as poisoned
from triton_cases import there

from deltaprune.kernels import causal_conv1d
from deltaprune.kernels._triton import INTERPRETED

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("poisoned")

BFLOAT16 = 2**-7 if INTERPRETED else 2**-8  # the interpreter cuts bits off where a GPU rounds to nearest


def run(made: dict) -> tuple[torch.Tensor, torch.Tensor]:
    out, state = causal_conv1d(**there(made), backend="triton")
    return out.cpu(), state.cpu()


@pytest.mark.parametrize("width", [2, 3, 4], ids="W{}".format)
@pytest.mark.parametrize("length", [1, 2, 3, 63, 64, 65, 257], ids="T{}".format)
@pytest.mark.parametrize("state", [False, True], ids=["fresh", "carried"])
def test_lengths(width, length, state):
    made = inputs([length], channels=12, width=width, seed=length, state=state)
    out, end = run(made)
    want, want_end = truth(**made)
    torch.testing.assert_close(out.double(), want, rtol=1e-5, atol=1e-6)
    assert torch.equal(end.double(), want_end)


@pytest.mark.parametrize("channels", [1, 128, 130], ids="E{}".format)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.bfloat16, BFLOAT16)], ids=str)
def test_widths_and_types(channels, dtype, rtol):
    made = inputs([20], channels, seed=channels, dtype=dtype, state=True)
    out, end = run(made)
    assert out.dtype == end.dtype == dtype
    torch.testing.assert_close(out.double(), truth(**made)[0], rtol=rtol, atol=rtol * 0.1)


@pytest.mark.parametrize("lengths", [[17, 1, 0, 2, 33], [0, 5, 0], [1] * 40], ids=str)
@pytest.mark.parametrize("state", [False, True], ids=["fresh", "carried"])
def test_batch_is_bit_equal_to_its_samples(lengths, state):
    """Forty sequences: more boundaries than are compared at once."""
    made = inputs(lengths, channels=7, seed=len(lengths), state=state)
    out, end = run(made)
    parts = [run(cut(made, s)) if lengths[s] else causal_conv1d(**cut(made, s)) for s in range(len(lengths))]
    assert torch.equal(out, torch.cat([p[0] for p in parts]))
    assert torch.equal(end, torch.cat([p[1] for p in parts]))


@pytest.mark.parametrize("at", [1, 2, 3, 16, 39])
def test_split_with_carried_state_is_bit_equal_to_whole(at):
    made = inputs([40], channels=7, seed=at, dtype=torch.bfloat16)
    out, end = run(made)
    pair = {**made, "cu_seqlens": torch.tensor([0, at, 40], dtype=torch.int32)}
    head, middle = run(cut(pair, 0))
    tail, last = run({**cut(pair, 1), "initial_state": middle})
    assert torch.equal(out, torch.cat([head, tail]))
    assert torch.equal(end, last)


def test_rows_cut_from_wider_ones():
    made = inputs([20], channels=7, seed=2)
    wide = torch.cat([made["x"], made["x"] + 1], 1)
    want, got = (run({**made, "x": x}) for x in (made["x"], wide[:, :7]))
    assert torch.equal(want[0], got[0])
    assert torch.equal(want[1], got[1])
