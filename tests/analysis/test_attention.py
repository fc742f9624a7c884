"""The matrix times the scan's input is the scan's output, channel by channel; nothing lies above the diagonal."""

import numpy as np
import pytest
import torch

from deltaprune import DTP, HiddenAttention, UserError
from deltaprune.analysis import attention
from deltaprune.analysis.attention import channel_blocks, implicit_attention
from deltaprune.analysis.scores import layer_scores
from deltaprune.benchmarks.scenes import Scene
from deltaprune.kernels import hidden_attention, selective_scan


@pytest.fixture(params=[1, 37], ids=["L1", "L37"])
def layer(request):
    """Random scan inputs of one sequence, and the output of the reference without D and gate."""
    length, channels, states = request.param, 6, 5
    torch.manual_seed(3)
    u, dt = torch.randn(length, channels), torch.randn(length, channels) - 1
    A = -torch.exp(torch.randn(channels, states))
    B, C = torch.randn(length, states), torch.randn(length, states)
    zeros, boundaries = torch.zeros(channels), torch.tensor([0, length], dtype=torch.int32)
    extras = frozenset({"delta", "y"})
    scan = selective_scan(u, dt, A, B, C, zeros, u, zeros, boundaries, extras=extras, backend="reference")
    return u, scan.delta, A, B, C, scan.y


@pytest.mark.parametrize("most", [1, 1000, 2**22])
def test_each_channel_reproduces_the_scan(layer, most):
    u, delta, A, B, C, y = layer
    seen = 0
    for start, rows in channel_blocks(delta, A, B, C, most):
        n, columns, _ = rows.shape
        assert (start, columns) == (seen, seen + n)
        made = torch.einsum("ije,je->ie", rows, u[:columns])
        torch.testing.assert_close(made, y[start : start + n], rtol=1e-4, atol=1e-5)
        seen += n
    assert seen == len(u)


def test_long_sums_of_steps_lose_no_digits():
    """Large early steps, small late ones: in float32 S_i - S_j of the late rows would be off by a percent."""
    length = 400
    delta = torch.cat([torch.full((200, 1), 1000.0), torch.full((200, 1), 1e-3)])
    A, ones = -torch.ones(1, 1), torch.ones(length, 1)
    row = implicit_attention(delta, A, ones, ones)[-1, 200:]
    expected = 1e-3 * torch.exp(-1e-3 * torch.arange(199.0, -1, -1))
    torch.testing.assert_close(row, expected, rtol=1e-5, atol=0)


def test_reduced_over_channels(layer):
    _, delta, A, B, C, _ = layer
    matrix = implicit_attention(delta, A, B, C)
    (_, channels), *_ = channel_blocks(delta, A, B, C)
    torch.testing.assert_close(matrix, channels.abs().mean(-1))
    assert (channels < 0).any()  # the sign is there before
    assert torch.equal(matrix.triu(1), torch.zeros_like(matrix))
    assert (matrix.tril()[torch.ones_like(matrix).tril().bool()] > 0).all()
    torch.testing.assert_close(matrix[-1], hidden_attention(delta, A, B, C[-1]))


def test_of_a_model(tiny):
    vlm, processor = tiny
    inputs = processor(images=Scene.from_seed(7).image, text="How many red circles are there?")
    first, last = attention(vlm, inputs, [4, 1])
    assert (first.after, last.after) == (1, 4)
    assert first.n_visual == 16
    assert first.matrix.shape == (16 + inputs["input_ids"].shape[1],) * 2
    scores = layer_scores(vlm, inputs, HiddenAttention()).scores[:, 0]
    np.testing.assert_allclose(first.received[:16], scores[0], rtol=1e-4)
    np.testing.assert_allclose(last.received[:16], scores[3], rtol=1e-4)
    with DTP(keep=0.25)(vlm):  # what is active changes nothing
        np.testing.assert_array_equal(attention(vlm, inputs, [4])[0].matrix, last.matrix)


def test_mistakes_are_told(tiny):
    vlm, processor = tiny
    picture = Scene.from_seed(7).image
    with pytest.raises(UserError, match=r"no layer 5: they are counted from 1 to 4 \(try 4\)"):
        attention(vlm, processor(images=picture, text="a"), [1, 5])
    with pytest.raises(UserError, match="no layer 0"):
        attention(vlm, processor(images=picture, text="a"), [0])
    with pytest.raises(UserError, match="given 2 questions: it takes the inputs of one"):
        attention(vlm, processor(images=picture, text=["a", "b"]), [1])
