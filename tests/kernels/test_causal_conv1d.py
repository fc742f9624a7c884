"""Every backend of the convolution x its properties; the truth is torch's own conv1d in float64."""

import pytest
import torch
import torch.nn.functional as F
from backends import backends, device_of, moved, typed_backends

from deltaprune.kernels import causal_conv1d

BACKENDS = backends("causal_conv1d")


def inputs(lengths, channels=48, width=4, seed=0, dtype=torch.float32, state=False) -> dict:
    g = torch.Generator().manual_seed(seed)
    made = {
        "x": torch.randn(sum(lengths), channels, generator=g).to(dtype),
        "weight": torch.randn(channels, width, generator=g),
        "bias": torch.randn(channels, generator=g),
        "cu_seqlens": torch.tensor([0, *lengths]).cumsum(0).to(torch.int32),
    }
    past = torch.randn(len(lengths), channels, width - 1, generator=g).to(dtype)
    return {**made, "initial_state": past if state else None}


def truth(x, weight, bias, cu_seqlens, initial_state):
    """One sequence through torch's padded convolution, in float64."""
    del cu_seqlens
    channels, width = weight.shape
    past = torch.zeros(channels, width - 1) if initial_state is None else initial_state[0]
    seen = torch.cat([past.double(), x.double().T], 1)
    out = F.conv1d(seen[None], weight.double()[:, None], bias.double(), groups=channels)[0].T
    return F.silu(out), seen[None, :, seen.shape[1] - width + 1 :]


def cut(made: dict, s: int) -> dict:
    start, stop = made["cu_seqlens"][s : s + 2].tolist()
    past = made["initial_state"]
    bounds = torch.tensor([0, stop - start], dtype=torch.int32)
    x, state = made["x"][start:stop], past if past is None else past[s : s + 1]
    return {**made, "x": x, "cu_seqlens": bounds, "initial_state": state}


def run(backend: str, made: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """The convolution where the backend runs; what it gives on the CPU."""
    out, end = causal_conv1d(**moved(made, device_of("causal_conv1d", backend)), backend=backend)
    return out.cpu(), end.cpu()


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Memory that nobody has written is NaN."""
    real = torch.empty

    def empty(*args, **kwargs):
        made = real(*args, **kwargs)
        return made.fill_(torch.nan) if made.is_floating_point() else made

    monkeypatch.setattr(torch, "empty", empty)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("width", [2, 3, 4], ids="W{}".format)
@pytest.mark.parametrize("length", [1, 2, 3, 63, 64, 65, 257], ids="T{}".format)
@pytest.mark.parametrize("state", [False, True], ids=["fresh", "carried"])
def test_lengths(backend, width, length, state):
    made = inputs([length], width=width, seed=length, state=state)
    out, end = run(backend, made)
    want, want_end = truth(**made)
    torch.testing.assert_close(out.double(), want, rtol=1e-5, atol=1e-6)
    assert torch.equal(end.double(), want_end)


@pytest.mark.parametrize(
    ("backend", "dtype"), typed_backends("causal_conv1d", torch.float32, torch.bfloat16, torch.float64)
)
@pytest.mark.parametrize("channels", [1, 16, 50, 192], ids="E{}".format)
def test_widths_and_types(backend, channels, dtype):
    made = inputs([40], channels, seed=channels, dtype=dtype, state=True)
    out, end = run(backend, made)
    assert out.dtype == end.dtype == dtype
    rtol = {torch.float32: 1e-5, torch.bfloat16: 2**-8, torch.float64: 1e-7}[dtype]
    torch.testing.assert_close(out.double(), truth(**made)[0], rtol=rtol, atol=rtol * 0.1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("lengths", [[17, 1, 0, 2, 33], [0, 5, 0], [0, 0]], ids=str)
@pytest.mark.parametrize("state", [False, True], ids=["fresh", "carried"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_batch_is_bit_equal_to_its_samples(backend, lengths, state, dtype):
    made = inputs(lengths, channels=50, seed=len(lengths), dtype=dtype, state=state)
    out, end = run(backend, made)
    parts = [run(backend, cut(made, s)) for s in range(len(lengths))]
    assert torch.equal(out, torch.cat([p[0] for p in parts]))
    assert torch.equal(end, torch.cat([p[1] for p in parts]))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("at", [0, 1, 2, 3, 16, 20, 38, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_split_with_carried_state_is_bit_equal_to_whole(backend, at, dtype):
    made = inputs([40], channels=50, seed=at, dtype=dtype)
    out, end = run(backend, made)
    pair = {**made, "cu_seqlens": torch.tensor([0, at, 40], dtype=torch.int32)}
    head, middle = run(backend, cut(pair, 0))
    tail, last = run(backend, {**cut(pair, 1), "initial_state": middle})
    assert torch.equal(out, torch.cat([head, tail]))
    assert torch.equal(end, last)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_cut_from_wider_ones(backend):
    made = inputs([40], seed=2)
    wide = torch.cat([made["x"], made["x"] + 1], 1)
    want, got = (run(backend, {**made, "x": x}) for x in (made["x"], wide[:, :48]))
    assert torch.equal(want[0], got[0])
    assert torch.equal(want[1], got[1])
