"""A few bfloat16 rows on CPUs: one launch a layer, in which the operations' own compiled parts follow each other.

Between two launches Python runs for 40 us, since its own data left the caches when the weights passed through; of 22
rows of mamba-2.8b that was a fifth of a layer's time. The results have the bits that the operations give many rows.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numba import prange
from torch import Tensor

from deltaprune.kernels import quantized
from deltaprune.kernels._backend import Backend
from deltaprune.kernels._memory import empty
from deltaprune.kernels._numba import compiled, launch, widen
from deltaprune.kernels._numba_blocks import LANES
from deltaprune.kernels._numba_layer import as_float, flat
from deltaprune.kernels._numba_pairs import SUMMED, pairs_product, work_rooms
from deltaprune.kernels._numba_vectors import WIDTH
from deltaprune.kernels.causal_conv1d.numba import convolve_rows, last_inputs, turned_taps
from deltaprune.kernels.layer_rows import MOST_ROWS, reference
from deltaprune.kernels.layer_step._weights import LayerWeights
from deltaprune.kernels.matmul.numba import NARROW, PAIRED
from deltaprune.kernels.quantized import Quantized
from deltaprune.kernels.quantized_matmul.numba import MOST_ROWS as READ
from deltaprune.kernels.rms_norm.numba import norm_rows
from deltaprune.kernels.selective_scan.numba import scan_rows

CHUNK = 1024  # numbers of the residual stream per unit of work


@compiled()
def _numbers(words):
    """bfloat16 numbers, as int16, of words of two."""
    return words.view(np.int16)


@compiled()
def _columns(words, step, first, length, count):
    """Some columns of rows of bfloat16, float32 (length, count)."""
    rows, columns = _numbers(words), np.empty((length, count), np.float32)
    for t in range(length):
        for n in range(count):
            columns[t, n] = widen(rows[np.uintp(t * step + first + n)])
    return columns


@compiled()
def _convolve(uz, channels, conv, taps, tap_bias, cu, u, last):
    """The first half of in_proj's rows -> u, and the convolution's new state."""
    samples, _, kept = conv.shape
    past, weight = np.empty((samples, kept, channels), np.int16), np.empty((kept + 1, channels), np.float32)
    shift = np.empty(channels, np.float32)
    for s in range(samples):
        for k in range(kept):
            for e in range(channels):
                past[s, k, e] = conv[s, e, k]
    turned_taps(taps, tap_bias, weight, shift)
    convolve_rows(_numbers(uz), 2 * channels, weight, shift, cu, past.reshape(-1), _numbers(u))
    last_inputs(_numbers(uz), 2 * channels, cu, past, last)


@compiled()
def _scan(u, uz, projected, dt, A, D, dt_bias, rank, length, cu, ssm, gated):
    """One row of `projected` holds dt before dt_proj, B and C."""
    channels, order = A.shape
    columns, z = rank + 2 * order, _numbers(uz)[channels:]
    B = _columns(projected, columns, rank, length, order)
    C = _columns(projected, columns, rank + order, length, order)
    nothing, sums = np.empty(0, np.float32), np.empty(((channels + LANES - 1) // LANES, 0), np.float32)
    scan_rows(
        _numbers(u), channels, _numbers(dt), channels, z, 2 * channels, A, B, C, D, dt_bias, cu, _numbers(gated), ssm,
        nothing, nothing, sums,
    )  # fmt: skip


@compiled(parallel=True)
def _add(x, branch, out):
    """out = x + branch, which is bfloat16."""
    numbers = _numbers(branch)
    for block in prange((len(out) + CHUNK - 1) // CHUNK):
        for i in range(block * CHUNK, min(len(out), block * CHUNK + CHUNK)):
            out[np.uintp(i)] = x[np.uintp(i)] + widen(numbers[np.uintp(i)])


@compiled()
def _layer(
    x, gain, eps, in_proj, taps, tap_bias, x_proj, dt_proj, dt_bias, A, D, out_proj, sizes, cu, conv, last, ssm, room,
    packed, rooms, out,
):  # fmt: skip
    """x, states -> out, new states: `ssm` is written over, `conv (B, E, W - 1)` becomes `last`.

    Matrices are as `pairs_product` takes them; `room`, for what lies between the operations, is flat pairs as well.
    """
    length, width, rank = sizes
    channels, order = A.shape
    columns, half = rank + 2 * order, channels // 2
    ends = np.cumsum(np.array([length * width // 2, length * channels, length * half, length * half, length * half]))
    normed, uz, u = room[: ends[0]], room[ends[0] : ends[1]], room[ends[1] : ends[2]]
    dt, gated, projected = room[ends[2] : ends[3]], room[ends[3] : ends[4]], room[ends[4] :]
    norm_rows(x, width, gain, eps, _numbers(normed))
    pairs_product(
        in_proj, width // 2, normed, width // 2, length, width // 2, packed, rooms, _numbers(uz), 2 * channels
    )  # fmt: skip
    _convolve(uz, channels, conv, taps, tap_bias, cu, u, last)
    pairs_product(x_proj, half, u, half, length, half, packed, rooms, _numbers(projected), columns)
    pairs_product(dt_proj, rank // 2, projected, columns // 2, length, rank // 2, packed, rooms, _numbers(dt), channels)
    _scan(u, uz, projected, dt, A, D, dt_bias, rank, length, cu, ssm, gated)
    pairs_product(out_proj, half, gated, half, length, half, packed, rooms, _numbers(normed), width)
    _add(x, normed, out)


def run(
    x: Tensor, w: LayerWeights, cu_seqlens: Tensor, ssm: Tensor | None, conv: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """See `layer_rows`; other numbers of rows and some sizes go one by one, see `_fits`."""
    (length, width), (channels, order) = x.shape, w.A_log.shape
    rank, window, samples = w.dt_proj.shape[1], w.conv.shape[1], len(cu_seqlens) - 1
    matrices = w.in_proj, w.x_proj, w.dt_proj, w.out_proj
    if window < 2 or order == 0 or not _fits(length, matrices):
        return reference.run(x, w, cu_seqlens, ssm, conv)
    shape, widest = (samples, channels, window - 1), max(width, channels, rank)
    state = torch.zeros(samples, channels, order) if ssm is None else _copied(ssm)
    before = torch.zeros(shape, dtype=torch.bfloat16) if conv is None else conv.detach().bfloat16()
    last, out = torch.empty(shape, dtype=torch.bfloat16), empty("layer_rows.out", x.shape, torch.float32, beside=x)
    words = length * (width // 2 + 5 * channels // 2 + rank // 2 + order)
    room = empty("layer_rows.room", (words,), torch.int32)
    packed = empty("matmul.packed", (-(-length // WIDTH) * WIDTH * widest // 2,), torch.int32)
    rooms = work_rooms(widest, widens=any(isinstance(m, Quantized) for m in matrices))
    A = torch.exp(w.A_log.float(), out=empty("decay", w.A_log.shape, torch.float32)).neg_()
    in_proj, x_proj, dt_proj, out_proj = (_matrix(m) for m in matrices)
    launch(
        _layer, w.in_proj.numel() * (1 + length // 4) // 16, as_float(x), as_float(w.norm), np.float32(w.eps),
        in_proj, flat(w.conv), flat(w.conv_bias), x_proj, dt_proj, as_float(w.dt_bias), A.numpy(), as_float(w.D),
        out_proj, (length, width, rank), cu_seqlens.numpy(), _bits(before), _bits(last), state.numpy(),
        room.numpy(), packed.numpy(), rooms, out.view(-1).numpy(),
    )  # fmt: skip
    return out, state, last


def _matrix(weight: Tensor | Quantized) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """As `pairs_product` takes it."""
    if isinstance(weight, Quantized):
        return quantized.flat(weight)
    return flat(weight.detach().contiguous().view(torch.int32))


def _copied(state: Tensor) -> Tensor:
    """A state that may be written over, float32."""
    return state.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)


def _bits(x: Tensor) -> np.ndarray:
    """bfloat16 as int16."""
    return x.contiguous().view(torch.int16).numpy()


def _fits(length: int, matrices: Sequence[Tensor | Quantized]) -> bool:
    """Whether all products are `pairs_product`'s for so many rows, and sums in the order of many rows'."""
    widths = {m.shape[1] for m in matrices}
    read = max((READ[m.form] for m in matrices if isinstance(m, Quantized)), default=0)
    return read < length <= MOST_ROWS and all(w % 2 == 0 and (0 < w <= SUMMED or w > NARROW) for w in widths)


BACKEND = Backend(
    op="layer_rows",
    name="numba",
    devices=("cpu",),
    carries_state=True,
    probe=lambda: None if PAIRED else "it needs a processor of AMD's that multiplies pairs of bfloat16",
    fn=run,
    dtypes=(torch.bfloat16,),
    priority=10,
)
