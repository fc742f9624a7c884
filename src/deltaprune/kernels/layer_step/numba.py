"""The step on CPUs: one launch a layer, four passes over the threads, each weight read once and nothing else of size.

    in_proj, convolution, SiLU      by channels: a row of u and one of z each
    x_proj                          by its rows
    dt_proj, scan, gate             by channels
    out_proj, residual add          by rows of out_proj

Which samples share a step does not matter, to the bit.
"""

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numba import prange
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels._numba import compiled, launch
from deltaprune.kernels._numba_products import round_rows, stretch
from deltaprune.kernels._numba_quantized import operand, product
from deltaprune.kernels._numba_step import CHANNELS, convolve, decays, norm, scan
from deltaprune.kernels._numba_vectors import PAIRS
from deltaprune.kernels.layer_step import reference
from deltaprune.kernels.layer_step._weights import LayerWeights
from deltaprune.kernels.quantized import Quantized, operands

_HELD: "WeakKeyDictionary[LayerWeights, tuple[Any, ...]]" = WeakKeyDictionary()
MOST_SAMPLES = 16 if PAIRS else 8  # with more, the operations one by one are about as fast


@compiled(parallel=True)
def _step(
    x, gain, eps, in_proj, taps, tap_bias, x_proj, dt_proj, dt_bias, a, D, out_proj,
    batch, width, channels, order, rank, window, threads, ssm, new_ssm, conv, new_conv, out,
):  # fmt: skip
    """Sizes: `batch` samples of `width` features, `channels` of `order` states, dt of `rank`, `window` taps."""
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


def step(x: Tensor, w: LayerWeights, ssm: Tensor, conv: Tensor, in_place: bool) -> tuple[Tensor, Tensor, Tensor]:
    """See `layer_step`; more samples than `MOST_SAMPLES`, or a window of one, go through the operations one by one."""
    (batch, width), (channels, order), rank, window = x.shape, w.A_log.shape, w.dt_proj.shape[1], w.conv.shape[1]
    if not 0 < batch <= MOST_SAMPLES or window < 2 or 0 in (width, channels, order, rank):
        return reference.step(x, w, ssm, conv, in_place)
    ssm, conv = ssm.detach().float().contiguous(), conv.detach().to(w.in_proj.dtype).contiguous()
    new_ssm, new_conv = (ssm, conv) if in_place else (torch.empty_like(ssm), torch.empty_like(conv))
    out = torch.empty(batch, width)
    held = _HELD.get(w) or _HELD.setdefault(w, _held(w))
    sizes = batch, width, channels, order, rank, window, torch.get_num_threads()
    states = _flat(ssm), _flat(conv)
    new_states = states if in_place else (_flat(new_ssm), _flat(new_conv))
    launch(
        _step, w.in_proj.numel() // 8, _float(x), *held, *sizes,
        states[0], new_states[0], states[1], new_states[1], _flat(out),
    )  # fmt: skip
    return out, new_ssm, new_conv


def _held(w: LayerWeights) -> tuple[Any, ...]:
    """The weights as the compiled step takes them, in its order."""
    return (
        _float(w.norm), np.float32(w.eps), _matrix(w.in_proj), _flat(w.conv), _flat(w.conv_bias), _matrix(w.x_proj),
        _matrix(w.dt_proj), _float(w.dt_bias), decays(_float(w.A_log), *w.A_log.shape), _float(w.D), _matrix(w.out_proj),
    )  # fmt: skip


def _float(x: Tensor) -> np.ndarray:
    """A tensor's numbers in float32, flat."""
    return x.detach().float().numpy().reshape(-1)


def _matrix(weight: Tensor | Quantized) -> np.ndarray | tuple[np.ndarray, ...]:
    """A weight as `product` takes it."""
    return operands(weight) if isinstance(weight, Quantized) else _flat(weight)


def _flat(x: Tensor) -> np.ndarray:
    """A tensor's memory; bfloat16 as the int16 of the same bits. A copy only where it has gaps."""
    x = x.detach()
    return (x.view(torch.int16) if x.dtype == torch.bfloat16 else x).numpy().reshape(-1)


BACKEND = Backend(
    op="layer_step",
    name="numba",
    devices=("cpu",),
    carries_state=True,
    probe=lambda: None,
    fn=step,
    dtypes=(torch.float32, torch.bfloat16),
    priority=10,
)
