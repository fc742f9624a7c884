"""Hidden attention of a packed batch, each sample by its own last token, on every kernel."""

import pytest
import torch
from traces import trace_of

from deltaprune.kernels import use
from deltaprune.rows import Rows
from deltaprune.scores.hidden_attention import HiddenAttention
from deltaprune.trace import Trace

SHAPES = [(0, 0), (20, 3), (1, 0), (0, 0), (0, 2), (40, 5), (0, 0)]


def traced(dtype: torch.dtype) -> tuple[Rows, Trace]:
    """A trace as a layer gives it: B and C are columns of one projection's output."""
    total = sum(v + t for v, t in SHAPES)
    tokens = Rows.pack([torch.zeros(v, 2) for v, _ in SHAPES], [torch.zeros(t, 2) for _, t in SHAPES])
    _, b, c = torch.randn(total, 20).to(dtype).split([4, 8, 8], dim=-1)
    return tokens, trace_of(delta=torch.rand(total, 50), decay=-torch.rand(50, 8), key=b, query=c)


@pytest.mark.parametrize("backend", ["reference", "numba"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_batch_is_bit_equal_to_its_samples(backend: str, dtype: torch.dtype) -> None:
    tokens, trace = traced(dtype)
    with use(backend):
        together = HiddenAttention()(tokens, trace)
        for (a, b), (visual, text) in zip(tokens.spans, SHAPES, strict=True):
            alone = Rows.pack([torch.zeros(visual, 2)], [torch.zeros(text, 2)])
            part = trace.map(lambda rows, span=slice(a, b): rows[span])
            assert torch.equal(together[a:b], HiddenAttention()(alone, part))
    assert together.dtype == torch.float32
    assert (together > 0).all()


def test_the_kernels_agree() -> None:
    tokens, trace = traced(torch.bfloat16)
    with use("reference"):
        plain = HiddenAttention()(tokens, trace)
    fast = HiddenAttention()(tokens, trace)
    assert not torch.equal(fast, plain), "the same kernel twice"
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-6)


def test_a_batch_without_rows() -> None:
    tokens, empty = Rows.pack([torch.zeros(0, 2)], [torch.zeros(0, 2)]), torch.zeros(0, 8)
    assert HiddenAttention()(
        tokens, trace_of(delta=torch.zeros(0, 50), decay=-torch.rand(50, 8), key=empty, query=empty)
    ).shape == (0,)
