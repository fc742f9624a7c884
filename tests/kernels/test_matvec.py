"""A few rows times a large matrix, every backend against float64."""

import pytest
import torch
from backends import backends, device_of, typed_backends
from torch import Tensor

from deltaprune.kernels import matvec
from deltaprune.kernels._numba_products import BLOCK
from deltaprune.kernels.matvec.numba import MOST_ROWS

BACKENDS = backends("matvec")
ROUNDED = {torch.float32: 1e-6, torch.bfloat16: 2**-8}


def close(got: Tensor, x: Tensor, weight: Tensor) -> None:
    """Rounded once; before that, a float32 sum's error, which grows with what is summed."""
    want, size = x.double() @ weight.double().T, x.double().abs() @ weight.double().abs().T
    assert got.dtype == x.dtype
    assert ((got.double() - want).abs() <= ROUNDED[x.dtype] * want.abs() + 1e-6 * size).all()  # NaN does not pass


def run(backend: str, x: Tensor, weight: Tensor) -> Tensor:
    device = device_of("matvec", backend)
    return matvec(x.to(device), weight.to(device), backend=backend).cpu()


@pytest.mark.parametrize(("backend", "dtype"), typed_backends("matvec", torch.float32, torch.bfloat16))
@pytest.mark.parametrize(
    "rows", [1, 2, 3, *(most + more for most in MOST_ROWS.values() for more in (0, 1))], ids="B{}".format
)
@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (BLOCK + 1, 64), (100, 1000), (7, 4097)], ids=str)
def test_products(backend, dtype, rows, shape):
    x, weight = torch.randn(rows, shape[1]).to(dtype), torch.randn(shape).to(dtype)
    close(run(backend, x, weight), x, weight)


@pytest.mark.parametrize("backend", BACKENDS)
def test_cut_from_wider_ones(backend):
    x, weight = torch.randn(2, 40).bfloat16(), torch.randn(30, 50).bfloat16()
    close(run(backend, x[:, 5:25], weight[:, 10:30]), x[:, 5:25], weight[:, 10:30])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rows", [1, MOST_ROWS[torch.bfloat16] + 1], ids="B{}".format)
def test_rounded_results_in_float32(backend, rows):
    x, weight = torch.randn(rows, 70).bfloat16(), torch.randn(300, 70).bfloat16()
    device = device_of("matvec", backend)
    got = matvec(x.to(device), weight.to(device), torch.float32, backend).cpu()
    assert got.dtype == torch.float32
    assert torch.equal(got, run(backend, x, weight).float())


@pytest.mark.parametrize("dtype", MOST_ROWS, ids=str)
def test_a_row_has_the_same_bits_among_any_few(dtype):
    x, weight = torch.randn(MOST_ROWS[dtype], 1000).to(dtype), torch.randn(BLOCK + 40, 1000).to(dtype)
    whole = matvec(x, weight, backend="numba")
    for i in range(len(x)):
        assert torch.equal(matvec(x[i : i + 1], weight, backend="numba"), whole[i : i + 1])
    assert torch.equal(matvec(x[1:4], weight, backend="numba"), whole[1:4])


@pytest.mark.parametrize("backend", BACKENDS)
def test_large_and_special_values(backend):
    x, weight = (
        torch.full((1, 3), 1e30).bfloat16(),
        torch.tensor([[1e30, 0, 0], [torch.nan, 0, 0], [1, -1, 0]]).bfloat16(),
    )
    got = run(backend, x, weight)[0]
    assert got[0] == torch.inf
    assert got[1].isnan()
    assert got[2] == 0


def test_the_same_on_any_number_of_threads():
    x, weight, before = torch.randn(1, 512).bfloat16(), torch.randn(3000, 512).bfloat16(), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = matvec(x, weight, backend="numba")
    finally:
        torch.set_num_threads(before)
    assert torch.equal(matvec(x, weight, backend="numba"), alone)


@pytest.mark.parametrize("shape", [(0, 8), (5, 0)], ids=str)
def test_empty(shape):
    made = matvec(torch.randn(2, shape[1]).bfloat16(), torch.randn(shape).bfloat16())
    assert torch.equal(made, torch.zeros(2, shape[0]).bfloat16())


def test_shapes_and_types_that_do_not_fit():
    with pytest.raises(ValueError, match=r"shapes or types do not fit: x \(1, 2\) torch.float32"):
        matvec(torch.ones(1, 2), torch.ones(3, 2).bfloat16())


def test_gradients_go_through_the_reference():
    weight = torch.randn(3, 2).bfloat16().requires_grad_()
    matvec(torch.ones(1, 2).bfloat16(), weight).sum().backward()
    assert weight.grad is not None
