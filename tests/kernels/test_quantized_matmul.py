"""Rows times an int8 or int4 matrix, every backend against float64, and how the numbers are packed."""

import pytest
import torch
from backends import backends, device_of, typed_backends
from torch import Tensor

from deltaprune.kernels import Quantized, matvec, quantized_matmul
from deltaprune.kernels._numba_vectors import BYTES
from deltaprune.kernels.quantized import FORMS, GROUP, dequantize, quantize
from deltaprune.kernels.quantized_matmul.numba import MOST_ROWS, widened

BACKENDS = backends("quantized_matmul")
ROWS = sorted({1, 2, 3, 4, 7, 64, 65, *MOST_ROWS.values(), *(rows + 1 for rows in MOST_ROWS.values())})
ROUNDED = {torch.float32: 1e-6, torch.bfloat16: 2**-8}
STEP = {"int8": 1 / 127, "int4": 1 / 7}  # of the largest weight that shares a scale


def made(form: str, rows: int, width: int, dtype: torch.dtype = torch.float32) -> Quantized:
    numbers, scale = quantize(torch.randn(rows, width), form)
    return Quantized(numbers, scale, dtype)


def run(backend: str, x: Tensor, weight: Quantized) -> Tensor:
    device = device_of("quantized_matmul", backend)
    there = Quantized(weight.numbers.to(device), weight.scale.to(device), weight.dtype)
    return quantized_matmul(x.to(device), there, backend=backend).cpu()


def in_bytes(x: Tensor) -> Tensor:
    """Each group of 32 as int8 numbers and a scale, and back."""
    groups = x.float().unflatten(1, (-1, GROUP))
    largest = groups.abs().amax(2, keepdim=True)
    numbers = (groups * torch.where(largest > 0, torch.tensor(127.0) / largest, 0)).round()
    return (numbers.double() * largest.double() / 127).flatten(1)


def truth(x: Tensor, weight: Quantized) -> Tensor:
    return x.double() @ dequantize(weight.numbers, weight.scale).double().T


@pytest.mark.parametrize(("backend", "dtype"), typed_backends("quantized_matmul", torch.float32, torch.bfloat16))
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows", ROWS, ids="T{}".format)
@pytest.mark.parametrize("shape", [(1, 32), (7, 96), (17, 64), (100, 1024)], ids=str)
def test_products(backend, dtype, form, rows, shape):
    x, weight = torch.randn(rows, shape[1]).to(dtype), made(form, shape[0], shape[1], dtype)
    numba, dots = backend == "numba" and dtype == torch.bfloat16, form == "int4" and rows <= MOST_ROWS[form] and BYTES
    got, want = run(backend, x, weight), truth(in_bytes(x) if numba and dots else x, weight)
    size = x.double().abs() @ dequantize(weight.numbers, weight.scale).double().abs().T
    rounded_weights = 2**-9 if numba and rows > MOST_ROWS[form] else 1e-6
    assert got.dtype == dtype
    assert ((got.double() - want).abs() <= ROUNDED[dtype] * want.abs() + rounded_weights * size).all()  # NaN fails


@pytest.mark.skipif(not BYTES, reason="the processor has no instruction for it")
@pytest.mark.parametrize("width", [32, 96, 128, 192, 5120])
@pytest.mark.parametrize("size", [1e-20, 1.0, 1e20])
def test_vectors_in_bytes_cost_less_than_the_matrix_in_half_bytes(width, size):
    x, w = (torch.randn(3, width) * size).bfloat16(), torch.randn(50, width)
    x[1, :GROUP] = 0
    weight = Quantized(*quantize(w, "int4"), torch.bfloat16)
    want = x.double() @ w.double().T
    got, exact = quantized_matmul(x, weight).double(), truth(x, weight)
    assert (got - exact).norm() < 0.1 * (exact - want).norm()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_a_round_trip_is_half_a_step_off(form, scale):
    weight = scale * torch.randn(50, 4 * GROUP)
    weight[3] = 0
    numbers, scales = quantize(weight, form)
    back = dequantize(numbers, scales)
    shared = weight.abs() if form == "int8" else weight.abs().unflatten(1, (-1, GROUP))
    largest = shared.amax(-1, keepdim=True).expand_as(shared).reshape(weight.shape)
    cut = 0.51 if form == "int8" else 2.2  # steps: an int4 scale may be so small that the largest weights are cut off
    assert ((back - weight).abs() <= cut * STEP[form] * largest).all()
    assert (back - weight).norm() / weight.norm() < (0.01 if form == "int8" else 0.09)
    assert back[3].eq(0).all()
    assert numbers.nbytes == weight.numel() * (1 if form == "int8" else 0.5)


@pytest.mark.parametrize("form", FORMS)
def test_whole_numbers_survive(form):
    most = 127 if form == "int8" else 7
    weight = torch.randint(-most, most + 1, (20, 2 * GROUP)).float()
    weight[:, ::GROUP] = -most if form == "int8" else -8
    assert torch.equal(dequantize(*quantize(weight, form)), weight)


def test_an_int4_byte_holds_two_numbers_of_its_group():
    weight = torch.zeros(1, 2 * GROUP)
    weight[0, GROUP], weight[0, GROUP + 3], weight[0, GROUP + 16 + 3] = -8, 5, -2
    numbers, scale = quantize(weight, "int4")
    assert numbers.shape == (1, GROUP)
    assert numbers[0, :16].eq(0x88).all()
    assert numbers[0, 16 + 3] == (5 + 8) | (-2 + 8) << 4
    assert scale.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_widened_matrix_is_what_the_numbers_stand_for(form, dtype):
    weight = made(form, 37, 96, dtype)
    assert torch.equal(widened(weight), weight.dequantized())


@pytest.mark.parametrize("form", FORMS)
def test_some_rows(form):
    weight, x = made(form, 40, 64), torch.randn(3, 64)
    assert torch.equal(quantized_matmul(x, weight[8:24]), quantized_matmul(x, weight)[:, 8:24])
    assert weight[8:24].shape == (16, 64)
    assert weight[8:24].numel() == 16 * 64


@pytest.mark.parametrize("form", FORMS)
def test_float32_rows_have_the_same_bits_whatever_is_packed_with_them(form):
    weight, x = made(form, 64, 320), torch.randn(100, 320)
    together = quantized_matmul(x, weight)
    for count in (1, 2, 3, 5, 64):
        assert torch.equal(quantized_matmul(x[:count], weight), together[:count])


@pytest.mark.parametrize("form", FORMS)
def test_the_same_on_any_number_of_threads(form):
    weight, x, before = made(form, 3000, 512), torch.randn(1, 512), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = quantized_matmul(x, weight)
        torch.set_num_threads(2)
        assert torch.equal(quantized_matmul(x, weight), alone)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("form", FORMS)
def test_cut_from_wider_rows_into_given_memory(backend, form):
    weight, x = made(form, 30, 64), torch.randn(2, 100)[:, 7:71]
    out = torch.full((2, 30), torch.nan)
    assert quantized_matmul(x, weight, out, backend) is out
    assert torch.allclose(out.double(), truth(x, weight), atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows", [1, MOST_ROWS["int4"] + 1])
def test_rounded_results_in_a_wider_type(backend, form, rows):
    weight, x = made(form, 30, 96, torch.bfloat16), torch.randn(rows, 96).bfloat16()
    wide = quantized_matmul(x, weight, torch.empty(rows, 30), backend)
    assert wide.dtype == torch.float32
    assert torch.equal(wide.bfloat16().float(), wide), "rounded once to the type of x"
    assert torch.equal(wide, quantized_matmul(x, weight, backend=backend).float())


def test_matvec_takes_it():
    weight, x = made("int4", 30, 64), torch.randn(2, 64)
    assert torch.equal(matvec(x, weight), quantized_matmul(x, weight))


def test_no_rows():
    assert quantized_matmul(torch.empty(0, 64), made("int8", 5, 64)).shape == (0, 5)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="do not fit"):
        quantized_matmul(torch.randn(2, 32), made("int8", 5, 64))
    with pytest.raises(ValueError, match="do not fit"):
        quantized_matmul(torch.randn(2, 64).bfloat16(), made("int8", 5, 64))
    with pytest.raises(ValueError, match="'int4' and a matrix"):
        quantize(torch.randn(2, 40), "int4")
    with pytest.raises(ValueError, match="'int5' and a matrix"):
        quantize(torch.randn(2, 32), "int5")
