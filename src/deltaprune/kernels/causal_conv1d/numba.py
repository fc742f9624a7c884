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
def _conv(x, step, weight, bias, cu, past, out):
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
    x = x.detach()
    if initial_state is None:
        past = torch.zeros((len(cu_seqlens) - 1, width - 1, channels), dtype=x.dtype)
    else:
        past = initial_state.detach().to(x.dtype).transpose(1, 2).contiguous()
    out = empty("causal_conv1d.out", (len(x), channels), x.dtype)
    taps = weight.detach().T.to(torch.float32, memory_format=torch.contiguous_format).contiguous()
    shift = bias.detach().float().contiguous()
    launch(
        _conv, x.numel() * width, *rows(x), taps.numpy(), shift.numpy(), cu_seqlens.numpy(),
        rows(past.view(-1, channels))[0], rows(out)[0],
    )  # fmt: skip
    return out, _last(x, past, cu_seqlens.long())


def _last(x: Tensor, past: Tensor, cu: Tensor) -> Tensor:
    """The last W - 1 inputs of each sequence `(S, E, W - 1)`, those of `past` included; all sequences at once."""
    starts, kept = cu[:-1, None], past.shape[1]
    if len(cu) == 2:  # in a third of the time
        rows = torch.cat([past[0], x[max(0, len(x) - kept) :]])
        return rows[len(rows) - kept :].T[None].contiguous()
    row = cu[1:, None] - kept + torch.arange(kept)
    before = past.gather(1, (row - starts + kept).clamp(max=kept - 1)[..., None].expand(past.shape))
    return torch.where((row >= starts)[..., None], x[row.clamp(min=0)], before).transpose(1, 2).contiguous()


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
