"""Attention in bfloat16 on CPUs that multiply pairs of bfloat16 (AVX512_BF16: Zen 4 and later, Cooper Lake).

torch's own kernel packs its operands for AMX alone and takes five times as long as its two products elsewhere. Here a
head's keys and values are packed once, two rows of a product beside each other as `vdpbf16ps` wants them, and six
queries at a time meet all keys; their scores stay in the first-level cache until they are weights, and then meet the
values. Sums and scores are float32. A row's result depends on its own image alone, and on no number of threads.
"""

import functools
from collections.abc import Sequence
from typing import Any

import llvmlite.binding
import numpy as np
import torch
from llvmlite import ir
from numba import prange
from numba.core import cgutils, types
from numba.extending import intrinsic
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels._numba import compiled, exp, full_width, launch, narrow
from deltaprune.kernels._numba_vectors import LINE, LLVM, PAIRS, TILES, WORD, fused_pairs
from deltaprune.kernels._numba_vectors import WIDTH as LANES
from deltaprune.kernels.softmax_attention import reference

HEIGHT, WIDEST = 6, 4  # rows of a tile; vectors of a tile
TILE = LANES * WIDEST
LOWEST = np.float32(-1e30)  # the score of a key that is not there
WORDS = ir.VectorType(WORD, LANES)  # each a pair of bfloat16


def _tile(width: int) -> Any:
    """out[r out_step + c] = Σ_i x[x_at + r x_step + i] · m[m_at + i m_step + c], r < HEIGHT, c < LANES `width`.

    `x` and `m` hold pairs of bfloat16 as int32, `·` multiplies two pairs and adds both products; `out` is float32.
    """
    places = [(r, w) for r in range(HEIGHT) for w in range(width)]

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        x, x_at, x_step, m, m_at, m_step, count, out, out_at, out_step = args
        x, m, out = (
            context.make_array(signature.args[i])(context, builder, array).data
            for i, array in ((0, x), (3, m), (7, out))
        )

        def along(array: Any, at: Any, step: Any, r: int, more: int = 0) -> Any:
            shift = builder.add(at, builder.mul(step, ir.Constant(step.type, r)))
            return builder.gep(array, [builder.add(shift, ir.Constant(step.type, more))])

        rows = [along(x, x_at, x_step, r) for r in range(HEIGHT)]
        sums = [cgutils.alloca_once_value(builder, ir.Constant(LINE, [0.0] * LANES)) for _ in places]
        zero = ir.Constant(WORD, 0)
        with cgutils.for_range(builder, count) as loop:
            at = builder.add(m_at, builder.mul(loop.index, m_step))
            lines = [
                builder.load(builder.bitcast(along(m, at, m_step, 0, LANES * w), WORDS.as_pointer()), align=4)
                for w in range(width)
            ]
            for r, row in enumerate(rows):
                pair = builder.load(builder.gep(row, [loop.index]))
                one = builder.insert_element(ir.Constant(WORDS, ir.Undefined), pair, zero)
                pairs = builder.shuffle_vector(one, one, ir.Constant(WORDS, [0] * LANES))
                for w, line in enumerate(lines):
                    total = sums[r * width + w]
                    builder.store(fused_pairs(builder, pairs, line, builder.load(total)), total)
        for (r, w), total in zip(places, sums, strict=True):
            place = builder.bitcast(along(out, out_at, out_step, r, LANES * w), LINE.as_pointer())
            builder.store(builder.load(total), place, align=4)
        return context.get_dummy_value()

    def tile(typingctx, x, x_at, x_step, m, m_at, m_step, count, out, out_at, out_step):
        n = types.intp
        return types.void(x, n, n, m, n, n, n, out, n, n), emit

    return intrinsic(tile)


_1, _2, _3, _4 = (_tile(width) for width in range(1, WIDEST + 1))


@compiled()
def _product(x, x_at, x_step, m, m_step, count, out, columns):
    """out (HEIGHT, columns) = HEIGHT rows of pairs times packed columns, a multiple of LANES."""
    for c in range(0, columns, TILE):
        left = columns - c
        if left >= TILE:
            _4(x, x_at, x_step, m, c, m_step, count, out, c, columns)
        elif left == 3 * LANES:
            _3(x, x_at, x_step, m, c, m_step, count, out, c, columns)
        elif left == 2 * LANES:
            _2(x, x_at, x_step, m, c, m_step, count, out, c, columns)
        else:
            _1(x, x_at, x_step, m, c, m_step, count, out, c, columns)


@compiled()
def _weights(scores, at, columns, known, scale, lanes, weights):
    """A row of scores -> exp(scale (score - the largest)), bfloat16; returns 1 / their sum. `lanes (2, LANES)`."""
    full_width()
    for j in range(known, columns):
        scores[at + j] = LOWEST
    for i in range(LANES):
        lanes[0, i], lanes[1, i] = LOWEST, np.float32(0)
    for j in range(0, columns, LANES):
        for i in range(LANES):
            score = scores[np.uintp(at + j + i)]
            lanes[0, i] = lanes[0, i] if lanes[0, i] > score else score
    top = lanes[0].max()
    for j in range(0, columns, LANES):
        for i in range(LANES):
            e = exp(scale * (scores[np.uintp(at + j + i)] - top))
            weights[np.uintp(at + j + i)] = narrow(e, weights[0])
            lanes[1, i] += e
    return np.float32(1) / lanes[1].sum()


@compiled()
def _up(n, step):
    """The next multiple of `step`."""
    return (n + step - 1) // step * step


@compiled()
def _pack(key, key_at, key_step, value, value_at, value_step, length, width, keys, values, stride, columns):
    """Keys as pairs of channels, key beside key `(k / 2, stride)`; values as pairs of rows `(L / 2, columns)`.

    `key` comes as pairs; what lies beyond the last key and channel is 0 already.
    """
    for j in range(length):
        for i in range(width // 2):
            keys[np.uintp(i * stride + j)] = key[np.uintp(key_at + j * key_step + i)]
    for j in range(0, length, 2):
        first, to = value_at + j * value_step, j // 2 * columns
        second = first + value_step if j + 1 < length else first
        keep = np.int32(-1) if j + 1 < length else np.int32(0)
        for c in range(width):
            low = np.int32(value[np.uintp(first + c)]) & np.int32(0xFFFF)
            high = np.int32(value[np.uintp(second + c)]) << np.int32(16)
            values[np.uintp(to + c)] = low | (high & keep)


@compiled()
def _head(query, query_at, query_step, keys, stride, values, columns, length, width, scale, out, out_at, out_step):
    """One head of one image, its keys and values packed; `query` comes as pairs."""
    full_width()
    scores, mixed = np.empty(HEIGHT * stride, np.float32), np.empty(HEIGHT * columns, np.float32)
    weights, lanes, sums = np.empty(HEIGHT * stride, np.int16), np.empty((2, LANES), np.float32), np.empty(HEIGHT)
    for block in range(0, length, HEIGHT):
        first = min(block, length - HEIGHT)  # the last rows of all: some for the second time
        _product(query, query_at + first * query_step, query_step, keys, stride, width // 2, scores, stride)
        for r in range(HEIGHT):
            sums[r] = _weights(scores, r * stride, stride, length, scale, lanes, weights)
        _product(weights.view(np.int32), 0, stride // 2, values, columns, (length + 1) // 2, mixed, columns)
        for r in range(HEIGHT):
            at, to, share = r * columns, out_at + (first + r) * out_step, np.float32(sums[r])
            for c in range(width):
                out[np.uintp(to + c)] = narrow(mixed[np.uintp(at + c)] * share, out[0])


@compiled(parallel=True)
def _attend(query, query_steps, key, key_steps, value, value_steps, scale, out, images, heads, length, width):
    """Head by head; steps are those of image, head and row."""
    stride, columns = _up(length, TILE), _up(width, LANES)
    for unit in prange(images * heads):
        b, h = unit // heads, unit % heads
        keys = np.zeros(width // 2 * stride, np.int32)
        values = np.zeros(stride // 2 * columns, np.int32)
        _pack(
            key, b * key_steps[0] + h * key_steps[1], key_steps[2],
            value, b * value_steps[0] + h * value_steps[1], value_steps[2],
            length, width, keys, values, stride, columns,
        )  # fmt: skip
        _head(
            query, b * query_steps[0] + h * query_steps[1], query_steps[2], keys, stride, values, columns,
            length, width, scale, out, (b * length * heads + h) * width, heads * width,
        )  # fmt: skip


def attention(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """See `softmax_attention`; fewer than `HEIGHT` rows, and an odd width, are left to torch."""
    images, heads, length, width = query.shape
    if length < HEIGHT or width % 2 or 0 in (images, heads, width):
        return reference.attention(query, key, value, scale)
    out = torch.empty(images, length, heads, width, dtype=query.dtype)
    given = *_flat(query, torch.int32), *_flat(key, torch.int32), *_flat(value, torch.int16)
    work = images * heads * length * length // 8
    to = out.view(torch.int16).numpy().reshape(-1)
    launch(_attend, work, *given, np.float32(scale), to, images, heads, length, width)
    return out


def _flat(x: Tensor, kind: torch.dtype) -> tuple[np.ndarray, tuple[int, ...]]:
    """A tensor's memory as numbers of another type, and its steps in them; copied where rows do not lie in pairs."""
    x = x.detach()
    if x.stride(3) != 1 or x.storage_offset() % 2 or any(step % 2 for step in x.stride()[:3]):
        x = x.contiguous()
    span = 1 + sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))
    share = kind.itemsize // x.dtype.itemsize
    return x.as_strided((span,), (1,)).view(kind).numpy(), tuple(step // share for step in x.stride()[:3])


@functools.cache
def _refusal() -> str | None:
    """Why this processor's own instructions are of no use here, or None."""
    if TILES:
        return "this processor has AMX, with which torch's own attention is fast"
    newest = llvmlite.binding.llvm_version_info[0]
    if newest < LLVM:
        return f"it needs LLVM {LLVM} (numba 0.62), and numba has {newest}"
    return None if PAIRS else "this processor has no AVX512_BF16"


BACKEND = Backend(
    op="softmax_attention",
    name="numba",
    devices=("cpu",),
    carries_state=True,
    probe=_refusal,
    fn=attention,
    dtypes=(torch.bfloat16,),
    priority=10,
)
