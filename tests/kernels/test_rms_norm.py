"""Every backend of the norm against the formula in float64."""

import inspect

import pytest
import torch
from backends import backends, device_of
from torch import Tensor

from deltaprune.kernels._triton import INTERPRETED
from deltaprune.kernels.rms_norm import rms_norm

BACKENDS = backends("rms_norm")


def formula(x: Tensor, weight: Tensor, eps: float, branch: Tensor | None) -> tuple[Tensor, Tensor]:
    r = x.double() if branch is None else x.double() + branch.double()
    return r, r / (r.square().mean(1, keepdim=True) + eps).sqrt() * weight.double()


def run(backend: str, *tensors: Tensor | None, **options) -> tuple[Tensor, Tensor]:
    device = device_of("rms_norm", backend)
    x, weight, branch = (t if t is None else t.to(device) for t in tensors)
    stream, normed = rms_norm(x, weight, 1e-5, branch, backend=backend, **options)
    return stream.cpu(), normed.cpu()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (7, 64), (2, 100), (1, 2560)], ids=str)
@pytest.mark.parametrize("adds", [False, True], ids=["alone", "adds"])
def test_shapes(backend, shape, adds):
    x, weight = 3 * torch.randn(shape), torch.randn(shape[1])
    branch = torch.randn(shape) if adds else None
    stream, normed = run(backend, x, weight, branch)
    want_stream, want = formula(x, weight, 1e-5, branch)
    torch.testing.assert_close(stream.double(), want_stream, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(normed.double(), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("x_type", [torch.float32, torch.bfloat16], ids=str)
def test_types(backend, x_type):
    """The sum is float32 and exact to its rounding; only `normed` takes the projection's type."""
    x, weight, branch = torch.randn(5, 64).to(x_type), torch.randn(64), torch.randn(5, 64).bfloat16()
    stream, normed = run(backend, x, weight, branch, dtype=torch.bfloat16)
    want_stream, want = formula(x, weight, 1e-5, branch)
    assert (stream.dtype, normed.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(stream, want_stream.float())
    rtol = 2**-7 if INTERPRETED and backend == "triton" else 2**-8
    torch.testing.assert_close(normed.double(), want, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_cut_from_wider_ones(backend):
    wide, weight = torch.randn(4, 32), torch.randn(16)
    got = run(backend, wide[:, :16], weight, wide[:, 16:])
    want = run(backend, wide[:, :16].contiguous(), weight, wide[:, 16:].contiguous())
    assert torch.equal(got[0], want[0])
    assert torch.equal(got[1], want[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_rows(backend):
    stream, normed = run(backend, torch.empty(0, 8), torch.ones(8), None, dtype=torch.bfloat16)
    assert stream.shape == normed.shape == (0, 8)
    assert normed.dtype == torch.bfloat16


def test_gradients_go_through_the_reference():
    x = torch.randn(3, 8, requires_grad=True)
    rms_norm(x, torch.ones(8), 1e-5)[1].sum().backward()
    assert x.grad is not None


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"weight \(7,\)"):
        inspect.unwrap(rms_norm)(torch.ones(3, 8), torch.ones(7), 1e-5)
