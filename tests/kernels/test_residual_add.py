"""The sum of stream and branch, and where it lies."""

import pytest
import torch
from backends import backends, device_of

from deltaprune.kernels import residual_add, reuse

BACKENDS = backends("residual_add")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (200, 64)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_sums(backend, shape, dtype):
    x, branch = torch.randn(shape), torch.randn(shape).to(dtype)
    device = device_of("residual_add", backend)
    got = residual_add(x.to(device), branch.to(device), backend).cpu()
    assert got.dtype == torch.float32
    assert torch.equal(got, (x.double() + branch.double()).float()), "rounded once"


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_cut_from_wider_ones(backend):
    wide = torch.randn(5, 30).to(device_of("residual_add", backend))
    assert torch.equal(residual_add(wide[:, :10], wide[:, 20:], backend), wide[:, :10] + wide[:, 20:])


def test_the_stream_that_is_added_to_stands():
    """Layer after layer, in two blocks by turns; what was left of the layer before is not written to."""
    x = torch.randn(4, 8)
    with reuse():
        first = residual_add(x, torch.ones(4, 8))
        part = first[1:]
        second = residual_add(part, torch.ones(3, 8))
        assert torch.equal(first, x + 1)
        assert torch.equal(second, x[1:] + 1 + 1)
        third = residual_add(second, torch.ones(3, 8))
        assert third.data_ptr() == first.data_ptr()
        assert torch.equal(third, x[1:] + 1 + 1 + 1)
        assert torch.equal(second, x[1:] + 1 + 1)


def test_other_types_and_gradients_go_to_torch():
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    residual_add(x, torch.ones(2, 3)).sum().backward()
    assert x.grad is not None
    assert residual_add(torch.ones(2, 3), torch.ones(2, 3).half()).dtype == torch.float32
    assert residual_add(torch.ones(0, 3), torch.ones(0, 3)).shape == (0, 3)
