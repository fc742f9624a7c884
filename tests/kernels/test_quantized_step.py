"""The step of decoding on int8 and int4 weights: as the operations one by one, which the products' own tests hold."""

import pytest
import torch

from deltaprune.kernels import LayerWeights, Quantized, layer_step
from deltaprune.kernels.layer_step.numba import MOST_SAMPLES
from deltaprune.kernels.quantized import FORMS, quantize


def made(
    form: str, dtype: torch.dtype, d: int = 96, e: int = 192, n: int = 16, r: int = 32, w: int = 4
) -> LayerWeights:
    def matrix(rows: int, columns: int, form: str = form) -> Quantized:
        numbers, scale = quantize(torch.randn(rows, columns) * columns**-0.5, form)
        return Quantized(numbers, scale, dtype)

    return LayerWeights(
        norm=torch.randn(d), in_proj=matrix(2 * e, d), conv=torch.randn(e, w).to(dtype),
        conv_bias=torch.randn(e).to(dtype),
        x_proj=matrix(r + 2 * n, e, "int8"), dt_proj=matrix(e, r, "int8"),
        dt_bias=torch.randn(e) - 2, A_log=torch.randn(e, n), D=torch.randn(e), out_proj=matrix(d, e), eps=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("batch", [1, 3, MOST_SAMPLES])
def test_one_launch_is_its_operations(form: str, dtype: torch.dtype, most: float, batch: int) -> None:
    weights = made(form, dtype)
    states = torch.randn(batch, 96), torch.randn(batch, 192, 16), torch.randn(batch, 192, 3).to(dtype)
    got = layer_step(states[0], weights, *states[1:], backend="numba")
    want = layer_step(states[0], weights, *states[1:], backend="reference")
    for a, b in zip(got, want, strict=True):
        assert (a.double() - b.double()).norm() <= most * b.double().norm()
