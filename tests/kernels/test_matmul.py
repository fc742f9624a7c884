"""Packed rows times a matrix, every backend against float64; ours gives a row the same bits among any others."""

import pytest
import torch
from backends import backends, device_of, takes, typed_backends
from torch import Tensor

from deltaprune.kernels import matmul
from deltaprune.kernels._numba_pairs import BLOCK as HIGH
from deltaprune.kernels._numba_pairs import MOST, SUMMED
from deltaprune.kernels._numba_products import BLOCK, HEIGHT, HELD
from deltaprune.kernels._numba_vectors import PAIRS
from deltaprune.kernels.matmul import numba as fast

BACKENDS = backends("matmul")
ROUNDED = {torch.float32: 1e-6, torch.bfloat16: 2**-8}
PARTS = HELD // (4 * 1700)  # rows of this width that are taken at once


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> str:
    """The numba backend, on a processor that would leave it all to torch as well, for matrices of any size."""
    monkeypatch.setattr(fast, "OURS", True)
    monkeypatch.setattr(fast, "PAIRED", PAIRS)
    monkeypatch.setattr(fast, "LEAST", 0)
    monkeypatch.setattr(fast, "NARROW", 0)
    return "numba"


def run(backend: str, x: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
    device = device_of("matmul", backend)
    return matmul(x.to(device), weight.to(device), out, backend).cpu()


SHAPES = {
    1: (1, 1), 3: (BLOCK + HEIGHT + 1, 33), 65: (11 * BLOCK, 64), PARTS + 5: (7, 1700), 16: (HIGH + 7, 2),
    22: (HIGH + 7, 6), 32: (HIGH + 7, 14), 37: (HIGH + 5, 40), 48: (HIGH + 7, 16), 51: (7, 20),
    MOST: (99, 4 * SUMMED + 6), 66: (99, 340), 0: (3, 4), 2: (0, 4),
}  # fmt: skip


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize(("backend", "dtype"), typed_backends("matmul", torch.float32, torch.bfloat16))
@pytest.mark.parametrize(("rows", "shape"), [*SHAPES.items()], ids=str)
def test_products(backend, dtype, rows, shape):
    """Rounded once; before that, a float32 sum's error, which grows with what is summed."""
    x, weight = torch.randn(rows, shape[1]).to(dtype), torch.randn(shape).to(dtype)
    got = run(backend, x, weight)
    want, size = x.double() @ weight.double().T, x.double().abs() @ weight.double().abs().T
    assert got.dtype == x.dtype
    assert got.shape == want.shape
    assert ((got.double() - want).abs() <= ROUNDED[dtype] * want.abs() + 1e-6 * size).all()  # NaN does not pass


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("backend", BACKENDS)
def test_cut_from_wider_ones_and_into_given_memory(backend):
    x, weight = torch.randn(9, 40), torch.randn(30, 50)
    assert takes("matmul", backend, torch.float32)
    out = torch.full((9, 30), torch.nan)
    got = matmul(x[:, 5:25], weight[:, 10:30], out, backend) if device_of("matmul", backend) == "cpu" else out
    torch.testing.assert_close(out, x[:, 5:25] @ weight[:, 10:30].T)
    assert got.data_ptr() == out.data_ptr()


def test_a_row_has_the_same_bits_among_any_others(ours):
    x, weight = torch.randn(PARTS + 20, 1700), torch.randn(BLOCK + 40, 1700)
    whole = run(ours, x, weight)
    for first, count in ((0, 1), (1, 2), (3, 3), (6, 23), (PARTS - 3, 5), (0, PARTS), (5, PARTS + 1)):
        assert torch.equal(run(ours, x[first : first + count], weight), whole[first : first + count])
    assert torch.equal(run(ours, x[:4], weight[50:57]), whole[:4, 50:57])


@pytest.mark.skipif(not fast.PAIRED, reason="bfloat16 is torch's here")
@pytest.mark.parametrize("width", [2 * SUMMED + 2, 2560, 5120], ids=str)
def test_few_rows_in_bfloat16_have_the_bits_of_many(width):
    """The few are ours, the many torch's; cut from wider ones, from an odd place, into given memory, and one alone."""
    x, weight = torch.randn(2 * MOST, width).bfloat16(), torch.randn(fast.LEAST // width + 1, width).bfloat16()
    whole = matmul(x, weight)
    for first, count in ((0, 1), (3, 22), (MOST, MOST), (5, 33), (7, 16)):
        assert torch.equal(matmul(x[first : first + count], weight), whole[first : first + count])
    wider, out = torch.randn(9, width + 7).bfloat16(), torch.empty(9, len(weight)).bfloat16()
    wider[:, 1 : width + 1] = x[:9]
    matmul(wider[:, 1 : width + 1], weight, out)
    assert torch.equal(out, whole[:9])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_same_on_any_number_of_threads(ours, dtype):
    x, weight, before = torch.randn(50, 256).to(dtype), torch.randn(3000, 256).to(dtype), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = run(ours, x, weight)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(run(ours, x, weight), alone)


def test_shapes_and_types_that_do_not_fit():
    with pytest.raises(ValueError, match=r"shapes or types do not fit: x \(1, 2\) torch.float32"):
        matmul(torch.ones(1, 2), torch.ones(3, 2).bfloat16())


def test_gradients_go_through_the_reference():
    weight = torch.randn(3, 2).requires_grad_()
    matmul(torch.ones(1, 2), weight).sum().backward()
    assert weight.grad is not None
