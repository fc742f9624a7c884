"""A few bfloat16 vectors times a matrix, on processors that multiply pairs (AVX512_BF16) and have no AMX.

16 vectors share a register: lane v of line i holds numbers 2 i and 2 i + 1 of vector v. Each pair of a row of the
matrix goes into all lanes, so that the matrix is read once and as it lies in memory. oneDNN, torch's own, reorders it
at every call, which for few vectors takes as long as the product. A tile is a few rows by up to four lines, with its
sums in registers. Up to 8 vectors at the end are half a line: they lie in both halves of the registers, which meet two
neighbouring rows of the tile at once.

A sum is made in oneDNN's order for these processors: pair after pair through `SUMMED` of them, and then the sums of
such blocks, one after the other. Hence the bits are those that torch gives many vectors, where rows are longer than a
block.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import prange
from numba.core import types
from numba.extending import intrinsic, overload

from deltaprune.kernels._memory import empty
from deltaprune.kernels._numba import compiled, full_width, narrow
from deltaprune.kernels._numba_lines import WORDS, expect
from deltaprune.kernels._numba_turn import HALF, along, data, load, turn
from deltaprune.kernels._numba_vectors import INDEX, LINE, WIDTH, WORD, fused_pairs, loop
from deltaprune.kernels._numba_widen import widen_row

HEIGHTS = 12, 12, 8, 8, 8, 8, 6, 6  # even numbers: rows of a tile by half lines, so that all sums stay in registers
MOST = HALF * len(HEIGHTS)  # vectors
BLOCK = 96  # rows of the matrix per unit of work
SUMMED = 512  # pairs of a block of a sum
UNROLLED = 8  # pairs at a time
AHEAD = 256  # pairs, a kibibyte: how far ahead a row is asked for
PACKED = 128  # pairs that a unit of work packs


def _tile(height: Callable[[int], int]) -> Any:
    """sums[to + r wide + v] += Σ_i weight[at + r step + i] · x[line(v) x_step + x_at + WIDTH i + lane(v)], all r and v.

    `weight` and packed `x` hold pairs of bfloat16 as int32, `·` multiplies two pairs and adds both products, `sums` is
    float32; r < height(halves), v < 8 halves, i < count.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        after = builder.append_basic_block("after")
        choice = builder.switch(args[0], after)
        for halves in range(1, MOST // HALF + 1):
            case = builder.append_basic_block(f"halves{halves}")
            choice.add_case(ir.Constant(INDEX, halves), case)
            builder.position_at_end(case)
            arrays = data(context, builder, signature, args, (1, 4, 8))
            _multiply(builder, height(halves), halves, arrays, args)
            builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    def tile(typingctx, halves, weight, at, step, x, x_at, x_step, count, sums, to, wide):
        n = types.intp
        return types.void(n, weight, n, n, x, n, n, n, sums, n, n), emit

    return intrinsic(tile)


def _multiply(builder: Any, height: int, halves: int, arrays: Sequence[Any], args: Sequence[Any]) -> None:
    """The tile for so many half lines."""
    at, step, x_at, x_step, count, to, wide = (args[i] for i in (2, 3, 5, 6, 7, 9, 10))
    weight, x, sums = arrays
    lines, shared = divmod(halves, 2)
    rows = [along(builder, weight, at, step, r) for r in range(height)]
    columns = [along(builder, x, x_at, x_step, v) for v in range(lines + shared)]
    neighbours = [tuple(range(r, min(r + 2, height))) for r in range(0, height, 2)] if shared else []
    nothing, zero = ir.Constant(WORDS, ir.Undefined), ir.Constant(WORD, 0)
    everywhere = [0] * WIDTH
    low, high = (ir.Constant(WORDS, [first] * HALF + [second] * HALF) for first, second in ((-1, 0), (0, -1)))

    def pair(i: Any, totals: Sequence[Any]) -> list[Any]:
        shift = builder.mul(i, ir.Constant(INDEX, WIDTH))
        vectors = [load(builder, builder.gep(column, [shift]), WORDS) for column in columns]
        ones = [builder.insert_element(nothing, builder.load(builder.gep(row, [i]), align=4), zero) for row in rows]
        same = [builder.shuffle_vector(one, nothing, ir.Constant(WORDS, everywhere)) for one in ones]
        both = [builder.or_(builder.and_(same[r[0]], low), builder.and_(same[r[-1]], high)) for r in neighbours]
        factors = [(word, vector) for word in same for vector in vectors[:lines]]
        factors += [(word, vectors[-1]) for word in both]
        return [fused_pairs(builder, *each, total) for each, total in zip(factors, totals, strict=True)]

    def pairs(i: Any, totals: Sequence[Any]) -> list[Any]:
        for row in rows:
            expect(builder, row, builder.add(i, ir.Constant(INDEX, AHEAD)), level=3)
        for k in range(UNROLLED):
            totals = pair(builder.add(i, ir.Constant(INDEX, k)), totals)
        return list(totals)

    whole = builder.and_(count, ir.Constant(INDEX, -UNROLLED))
    totals = [ir.Constant(LINE, [0.0] * WIDTH)] * (height * lines + len(neighbours))
    totals = loop(builder, ir.Constant(INDEX, 0), whole, UNROLLED, totals, pairs)
    totals = loop(builder, whole, count, 1, totals, pair)
    for k, total in enumerate(totals[: height * lines]):
        r, v = divmod(k, lines)
        _add(builder, along(builder, sums, to, wide, r, WIDTH * v), total)
    for some, total in zip(neighbours, totals[height * lines :], strict=True):
        for r, first in zip(some, (0, HALF), strict=False):
            lanes = ir.Constant(ir.VectorType(WORD, HALF), list(range(first, first + HALF)))
            place = along(builder, sums, to, wide, r, WIDTH * lines)
            _add(builder, place, builder.shuffle_vector(total, total, lanes))


def _add(builder: Any, place: Any, total: Any) -> None:
    """Add a vector to what lies at a place."""
    total = builder.fadd(load(builder, place, total.type), total)
    builder.store(total, builder.bitcast(place, total.type.as_pointer()), align=4)


_rows, _row = _tile(lambda halves: HEIGHTS[halves - 1]), _tile(lambda halves: 1)


@compiled()
def _block(weight, at, step, height, packed, halves, count, sums):
    """sums (height, HALF halves) = a block of rows times all vectors: first whole tiles, whose rows lie far apart."""
    tall = HEIGHTS[halves - 1]
    tiles, wide, line = height // tall, halves * HALF, count * WIDTH
    for i in range(height * wide):
        sums[np.uintp(i)] = np.float32(0)
    for t in range(tiles):
        for i in range(0, count, SUMMED):
            begin, some = at + t * step + i, min(SUMMED, count - i)
            _rows(halves, weight, begin, tiles * step, packed, i * WIDTH, line, some, sums, t * wide, tiles * wide)
    for r in range(tiles * tall, height):
        for i in range(0, count, SUMMED):
            begin, some = at + r * step + i, min(SUMMED, count - i)
            _row(halves, weight, begin, step, packed, i * WIDTH, line, some, sums, r * wide, wide)


@compiled()
def _deliver(sums, wide, count, height, turned, out, at, out_step):
    """sums (height, wide) -> `count` rows of `out`, `height` numbers of each; `turned` has room for 16 by 16."""
    full_width()
    whole = height // WIDTH * WIDTH
    for b in range(0, count, WIDTH):
        some = min(WIDTH, count - b)
        for r in range(0, whole, WIDTH):
            turn(sums, r * wide + b, wide, WIDTH, turned, 0, WIDTH)
            for i in range(some):
                to, come = np.uintp(at + (b + i) * out_step + r), np.uintp(i * WIDTH)
                for j in range(WIDTH):
                    out[to + np.uintp(j)] = narrow(turned[come + np.uintp(j)], out[0])
        for i in range(b, b + some):
            for r in range(whole, height):
                out[np.uintp(at + i * out_step + r)] = narrow(sums[np.uintp(r * wide + i)], out[0])


def work_rooms(width: int, widens: bool) -> np.ndarray:
    """What `pairs_product` takes as `rooms`; a matrix that is not quantized needs no space in them."""
    return empty("pairs.rooms", (torch.get_num_threads(), BLOCK * width if widens else 0), torch.int16).numpy()


@compiled()
def _pack(x, x_step, batch, line, first, last, count, packed):
    """Pairs `first` to `last` of the vectors of a line -> packed (line, pair, vector).

    Those of half a line twice; where there is no vector, the last one's, of which nothing is read.
    """
    at, to = line * WIDTH * x_step, line * WIDTH * count
    known, whole = min(WIDTH, batch - line * WIDTH), first + (last - first) // WIDTH * WIDTH
    for i in range(first, whole, WIDTH):
        turn(x, at + i, x_step, known, packed, to + i * WIDTH, WIDTH)
    for lane in range(WIDTH):
        v = min(known - 1, lane % HALF if known <= HALF else lane)
        for i in range(whole, last):
            packed[np.uintp(to + i * WIDTH + lane)] = x[np.uintp(at + v * x_step + i)]


def _opened(weight, first, tall, step, room) -> Any:
    """Rows of a matrix as flat pairs, and where the first begins: a quantized matrix's are widened into `room`."""
    raise NotImplementedError("for compiled code")


@overload(_opened)
def _open_rows(weight, first, tall, step, room):
    if isinstance(weight, types.BaseTuple):
        return lambda weight, first, tall, step, room: (_widened(weight[0], weight[1], first, tall, step, room), 0)
    return lambda weight, first, tall, step, room: (weight, first * step)


@compiled()
def _widened(numbers, scale, first, tall, step, room):
    for r in range(tall):
        widen_row(numbers, scale, first + r, 2 * step, room, 2 * r * step)
    return room.view(np.int32)


@compiled(parallel=True)
def pairs_product(weight, step, x, x_step, batch, count, packed, rooms, out, height):
    """out (batch, height) bfloat16 = rows of `count` pairs; all flat, bfloat16 as int16 and pairs of them as int32.

    `weight` may be the numbers and scales of a quantized matrix. `packed` is room for the pairs of all vectors, at most
    `MOST`, whose number is rounded up to a multiple of 16; `rooms`, a row for each thread, for `BLOCK` widened rows.
    """
    halves, lines, parts = (batch + HALF - 1) // HALF, (batch + WIDTH - 1) // WIDTH, (count + PACKED - 1) // PACKED
    for part in prange(lines * parts):
        first = part % parts * PACKED
        _pack(x, x_step, batch, part // parts, first, min(count, first + PACKED), count, packed)
    blocks, threads = (height + BLOCK - 1) // BLOCK, len(rooms)
    for thread in prange(threads):
        sums, turned = np.empty(BLOCK * MOST + HALF, np.float32), np.empty(WIDTH * WIDTH, np.float32)
        for block in range(thread * blocks // threads, (thread + 1) * blocks // threads):
            first, tall = block * BLOCK, min(BLOCK, height - block * BLOCK)
            rows, at = _opened(weight, first, tall, step, rooms[thread])
            _block(rows, at, step, tall, packed, halves, count, sums)
            _deliver(sums, halves * HALF, batch, tall, turned, out, first, height)
