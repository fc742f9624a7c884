"""Softplus and SiLU as the Triton kernels compute them, against float64."""

import pytest
import torch
import torch.nn.functional as F
from triton_cases import DEVICE

triton = pytest.importorskip("triton")

import triton.language as tl  # noqa: E402

from deltaprune.kernels._triton_math import kernel, silu, softplus  # noqa: E402


@kernel
def both(x, soft, gate, LANES: tl.constexpr):
    i = tl.program_id(0) * LANES + tl.arange(0, LANES)
    value = tl.load(x + i)
    tl.store(soft + i, softplus(value))
    tl.store(gate + i, silu(value))


@pytest.mark.parametrize(("reach", "rtol"), [(4, 1e-6), (80, 1e-5)])  # e^x of a rounded x: an error that grows with x
def test_as_exact_as_the_argument_of_the_exponential(reach, rtol):
    x = torch.linspace(-reach, reach, 1 << 16, device=DEVICE)
    soft, gate = torch.empty_like(x), torch.empty_like(x)
    both[(len(x) // 1024,)](x, soft, gate, LANES=1024)
    want = torch.log1p(x.double().exp())
    torch.testing.assert_close(soft.double(), want, rtol=rtol, atol=0)
    torch.testing.assert_close(gate.double(), F.silu(x.double()), rtol=rtol, atol=0)


def test_extremes():
    x = torch.tensor([-1e10, -1000.0, 0.0, 1000.0, 1e30, torch.nan] + [0.0] * 2, device=DEVICE)
    soft, gate = torch.empty_like(x), torch.empty_like(x)
    both[(1,)](x, soft, gate, LANES=8)
    assert soft[:5].tolist() == [0.0, 0.0, pytest.approx(0.6931472), 1000.0, x[4].item()]
    assert gate[:5].tolist() == pytest.approx([0.0, 0.0, 0.0, 1000.0, x[4].item()], rel=0, abs=1e-27)
    assert soft[5].isnan()
    assert gate[5].isnan()
