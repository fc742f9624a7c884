"""The convolution on CPUs: parallel over tiles of rows, vectorised over the channels.

There is no recurrence: a row reads its W - 1 predecessors in `x`, or in the initial state where its sequence begins.
"""

import numpy as np
import torch
from numba import prange
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels._memory import empty
from deltaprune.kernels._numba import compiled, fma, launch, narrow, rows, silu, widen

TILE = 16  # rows per unit of work


@compiled()
def _tap(total, source, base, weight):
    """total += weight x, one row."""
    at = np.uintp(base)
    for e in range(len(total)):
        total[e] = fma(weight[e], widen(source[at + np.uintp(e)]), total[e])


@compiled()
def _activate(total, into, base):
    at = np.uintp(base)
    for e in range(len(total)):
        into[at + np.uintp(e)] = narrow(silu(total[e]), into[0])


@compiled(parallel=True)
def _conv(x, step, weight, bias, cu, past, out):
    """`weight` is (W, E); `past` the flat (S, W - 1, E) initial state; `out` the flat (T, E)."""
    width, channels = weight.shape
    length = cu[-1]
    for tile in prange((length + TILE - 1) // TILE):
        total = np.empty(channels, np.float32)
        s = np.searchsorted(cu, tile * TILE, side="right") - 1
        for t in range(tile * TILE, min(length, (tile + 1) * TILE)):
            while cu[s + 1] <= t:
                s += 1
            total[:] = bias
            for k in range(width):
                row = t - width + 1 + k
                if row >= cu[s]:
                    _tap(total, x, row * step, weight[k])
                else:
                    _tap(total, past, (s * (width - 1) + row - cu[s] + width - 1) * channels, weight[k])
            _activate(total, out, t * channels)


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
