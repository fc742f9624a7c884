"""The convolution on CPUs: parallel over tiles of rows, block after block of channels, vectorised over these.

There is no recurrence: a row reads its W - 1 predecessors in `x`, or in the initial state where its sequence begins.
"""

import numpy as np
import torch
from numba import prange
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels._memory import empty
from deltaprune.kernels._numba import compiled, fma, full_width, launch, narrow, rows, silu, widen

TILE = 16  # rows per unit of work
BLOCK = 512  # channels whose taps stay in the first-level cache for a tile
USUAL = 4  # taps; all of them are then in one loop


@compiled()
def turned_taps(weight, bias, taps, shift):
    """`weight` (E, W), flat -> `taps` (W, E), and `bias` -> `shift`, both float32."""
    width = len(taps)
    for e in range(len(bias)):
        shift[e] = widen(bias[np.uintp(e)])
        for k in range(width):
            taps[k, e] = widen(weight[np.uintp(e * width + k)])


@compiled()
def last_inputs(x, step, cu, past, out):
    """The last W - 1 inputs of each sequence, those of `past` (S, W - 1, E) included -> `out` (S, E, W - 1)."""
    sequences, kept, channels = past.shape
    for s in range(sequences):
        for k in range(kept):
            row = cu[s + 1] - kept + k
            for e in range(channels):
                out[s, e, k] = x[np.uintp(row * step + e)] if row >= cu[s] else past[s, row - cu[s] + kept, e]


@compiled()
def _tap(total, source, base, weight, first):
    """total += weight x: some channels of one row."""
    full_width()
    at, first = np.uintp(base), np.uintp(first)
    for i in range(len(total)):
        e = np.uintp(i)
        total[e] = fma(weight[first + e], widen(source[at + e]), total[e])


@compiled()
def _activate(total, into, base):
    full_width()
    at = np.uintp(base)
    for i in range(len(total)):
        e = np.uintp(i)
        into[at + e] = narrow(silu(total[e]), into[0])


@compiled()
def _usual(x, base, step, weight, bias, first, count, into, to):
    """Some channels of one row whose predecessors are in `x` too, the first of them at `base`."""
    full_width()
    at, step, first, to = np.uintp(base), np.uintp(step), np.uintp(first), np.uintp(to)
    w0, w1, w2, w3 = weight[0], weight[1], weight[2], weight[3]
    for i in range(count):
        e = np.uintp(i)
        total = fma(w0[first + e], widen(x[at + e]), bias[first + e])
        total = fma(w1[first + e], widen(x[at + step + e]), total)
        total = fma(w2[first + e], widen(x[at + step + step + e]), total)
        total = fma(w3[first + e], widen(x[at + step + step + step + e]), total)
        into[to + e] = narrow(silu(total), into[0])


@compiled()
def _unusual(x, step, weight, bias, start, s, t, past, total, out, first):
    """Some channels of row `t` of sequence `s`, which begins at row `start`."""
    width, channels = weight.shape
    for i in range(len(total)):
        total[i] = bias[first + i]
    for k in range(width):
        row = t - width + 1 + k
        if row >= start:
            _tap(total, x, row * step + first, weight[k], first)
        else:
            _tap(total, past, (s * (width - 1) + row - start + width - 1) * channels + first, weight[k], first)
    _activate(total, out, t * channels + first)


@compiled(parallel=True)
def convolve_rows(x, step, weight, bias, cu, past, out):
    """`weight` is (W, E); `past` the flat (S, W - 1, E) initial state; `out` the flat (T, E)."""
    width, channels = weight.shape
    length = cu[-1]
    for tile in prange((length + TILE - 1) // TILE):
        for first in range(0, channels, BLOCK):
            count = min(BLOCK, channels - first)
            total = np.empty(count, np.float32)
            s = np.searchsorted(cu, tile * TILE, side="right") - 1
            for t in range(tile * TILE, min(length, (tile + 1) * TILE)):
                while cu[s + 1] <= t:
                    s += 1
                oldest = t - width + 1
                if width == USUAL and oldest >= cu[s]:
                    _usual(x, oldest * step + first, step, weight, bias, first, count, out, t * channels + first)
                else:
                    _unusual(x, step, weight, bias, cu[s], s, t, past, total, out, first)


def conv(
    x: Tensor, weight: Tensor, bias: Tensor, cu_seqlens: Tensor, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `causal_conv1d`."""
    channels, width = weight.shape
    x, weight, bias = x.detach(), weight.detach().contiguous(), bias.detach().contiguous()
    shape = len(cu_seqlens) - 1, width - 1, channels
    if initial_state is None:
        past = torch.zeros(shape, dtype=x.dtype)
    else:
        past = initial_state.detach().to(x.dtype).transpose(1, 2).contiguous()
    out = empty("causal_conv1d.out", (len(x), channels), x.dtype)
    last = torch.empty(shape[0], channels, width - 1, dtype=x.dtype)
    taps, shift = np.empty((width, channels), np.float32), np.empty(channels, np.float32)
    bounds, (given, step) = cu_seqlens.numpy(), rows(x)
    turned_taps(_flat(weight), _flat(bias), taps, shift)
    launch(convolve_rows, x.numel() * width, given, step, taps, shift, bounds, _flat(past), rows(out)[0])
    last_inputs(given, step, bounds, _flat(past).reshape(shape), _flat(last).reshape(last.shape))
    return out, last


def _flat(x: Tensor) -> np.ndarray:
    """A contiguous tensor's memory in float32, or bfloat16 as the int16 of the same bits."""
    return (x.view(torch.int16) if x.dtype == torch.bfloat16 else x.float()).numpy().reshape(-1)


BACKEND = Backend(
    op="causal_conv1d",
    name="numba",
    devices=("cpu",),
    carries_state=True,
    probe=lambda: None,
    fn=conv,
    dtypes=(torch.float32, torch.bfloat16),
    priority=10,
)
