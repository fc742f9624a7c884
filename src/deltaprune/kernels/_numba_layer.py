"""A layer's step on a CPU, in four passes over the threads; each weight is read once, and nothing else of size.

    in_proj, convolution, SiLU      by channels: a row of u and one of z each
    x_proj                          by its rows
    dt_proj, scan, gate             by channels
    out_proj, residual add          by rows of out_proj

Which samples share a step does not matter, to the bit.
"""

from typing import Any

import numpy as np
import torch
from numba import prange
from torch import Tensor

from deltaprune.kernels._numba import compiled
from deltaprune.kernels._numba_products import round_rows, stretch
from deltaprune.kernels._numba_quantized import operand, product
from deltaprune.kernels._numba_step import CHANNELS, convolve, decays, norm, scan
from deltaprune.kernels._numba_vectors import PAIRS
from deltaprune.kernels.layer_step._weights import LayerWeights
from deltaprune.kernels.quantized import Quantized, operands

MOST_SAMPLES = 16 if PAIRS else 8  # with more, the operations one by one are about as fast


@compiled(parallel=True)
def layer(
    x, gain, eps, in_proj, taps, tap_bias, x_proj, dt_proj, dt_bias, a, D, out_proj,
    batch, width, channels, order, rank, window, threads, ssm, new_ssm, conv, new_conv, out,
):  # fmt: skip
    """x, state -> out, new state; `batch` samples of `width` features, `channels` of `order` states, `window` taps."""
    like, columns = conv[0], rank + 2 * order
    normed, uz = np.empty(batch * width, np.float32), np.empty(batch * 2 * channels, np.float32)
    projected, dt = np.empty(batch * columns, np.float32), np.empty(batch * channels, np.float32)
    gated = np.empty(batch * channels, np.float32)
    for b in range(batch):
        norm(x, gain, eps, b * width, width, normed, like)
    read, unit = operand(normed, in_proj, width, batch), stretch(channels, batch, threads)
    for block in prange((channels + unit - 1) // unit):
        first, last = block * unit, min(channels, block * unit + unit)
        for at in range(0, 2 * channels, channels):  # u, z
            product(in_proj, width, at + first, at + last, read, width, batch, uz, 2 * channels)
            round_rows(uz, 2 * channels, batch, at + first, at + last, like)
        for b in range(batch):
            past = b * channels * (window - 1)
            convolve(uz, b * 2 * channels, first, last, taps, tap_bias, window, conv, new_conv, past)
    read, unit = operand(uz, x_proj, channels, batch), stretch(columns, batch, threads)
    for block in prange((columns + unit - 1) // unit):
        first, last = block * unit, min(columns, block * unit + unit)
        product(x_proj, channels, first, last, read, 2 * channels, batch, projected, columns)
        round_rows(projected, columns, batch, first, last, like)
    read = operand(projected, dt_proj, rank, batch)
    for block in prange((channels + CHANNELS - 1) // CHANNELS):
        first, last = block * CHANNELS, min(channels, block * CHANNELS + CHANNELS)
        product(dt_proj, rank, first, last, read, columns, batch, dt, channels)
        for b in range(batch):
            scan(
                a, first, last, channels, order, dt, dt_bias, D, projected, b * columns + rank,
                uz, b * 2 * channels, ssm, new_ssm, b, gated, like,
            )  # fmt: skip
    read, unit = operand(gated, out_proj, channels, batch), stretch(width, batch, threads)
    for block in prange((width + unit - 1) // unit):
        first, last = block * unit, min(width, block * unit + unit)
        product(out_proj, channels, first, last, read, channels, batch, out, width)
        round_rows(out, width, batch, first, last, like)
        for b in range(batch):
            for r in range(b * width + first, b * width + last):
                out[r] += x[r]


def held(w: LayerWeights) -> tuple[Any, ...]:
    """The weights as `layer` takes them, in its order."""
    return (
        as_float(w.norm), np.float32(w.eps), matrix(w.in_proj), flat(w.conv), flat(w.conv_bias), matrix(w.x_proj),
        matrix(w.dt_proj), as_float(w.dt_bias), decays(as_float(w.A_log), *w.A_log.shape), as_float(w.D),
        matrix(w.out_proj),
    )  # fmt: skip


def as_float(x: Tensor) -> np.ndarray:
    """A tensor's numbers in float32, flat."""
    return x.detach().float().numpy().reshape(-1)


def matrix(weight: Tensor | Quantized) -> np.ndarray | tuple[np.ndarray, ...]:
    """A weight as `product` takes it."""
    return operands(weight) if isinstance(weight, Quantized) else flat(weight)


def flat(x: Tensor) -> np.ndarray:
    """A tensor's memory; bfloat16 as the int16 of the same bits. A copy only where it has gaps."""
    x = x.detach()
    return (x.view(torch.int16) if x.dtype == torch.bfloat16 else x).numpy().reshape(-1)
