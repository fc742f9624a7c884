"""A few bfloat16 vectors times a matrix, on processors that multiply pairs (AVX512_BF16) and have no AMX.

16 vectors share a register: lane v of line i holds numbers 2 i and 2 i + 1 of vector v. Each pair of a row of the
matrix goes into all lanes, so that the matrix is read once and as it lies in memory. oneDNN, torch's own, reorders it
at every call, which for few vectors takes as long as the product. A tile is a few rows by up to four lines, with its
sums in registers.

A sum is made in oneDNN's order for these processors: pair after pair through `SUMMED` of them, and then the sums of
such blocks, one after the other. Hence the bits are those that torch gives many vectors, where rows are longer than a
block.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange
from numba.core import types
from numba.extending import intrinsic

from deltaprune.kernels._numba import compiled, full_width, instruction, narrow
from deltaprune.kernels._numba_lines import WORDS, expect
from deltaprune.kernels._numba_vectors import INDEX, LINE, WIDTH, WORD, fused_pairs, loop

HEIGHTS = {1: 12, 2: 8, 3: 8, 4: 6}  # rows of a tile by lines of vectors: as many sums as LLVM keeps in registers
MOST = WIDTH * max(HEIGHTS)  # vectors
BLOCK = 96  # rows of the matrix per unit of work
SUMMED = 512  # pairs of a block of a sum
UNROLLED = 8  # pairs at a time
AHEAD = 256  # pairs, a kibibyte: how far ahead a row is asked for
PACKED = 128  # pairs that a unit of work packs


def _tile(height: int, lines: int) -> Any:
    """sums[to + r wide + WIDTH v + lane] += Σ_i weight[at + r step + i] · x[x_at + v x_step + WIDTH i + lane].

    `weight` and packed `x` hold pairs of bfloat16 as int32, `·` multiplies two pairs and adds both products, `sums` is
    float32; r < height, v < lines, i < count.
    """
    places = [(r, v) for r in range(height) for v in range(lines)]

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        at, step, x_at, x_step, count, to, wide = (args[i] for i in (1, 2, 4, 5, 6, 8, 9))
        weight, x, sums = _data(context, builder, signature, args, (0, 3, 7))
        rows = [_along(builder, weight, at, step, r) for r in range(height)]
        columns = [_along(builder, x, x_at, x_step, v) for v in range(lines)]
        results = [_along(builder, sums, to, wide, r, WIDTH * v) for r, v in places]
        nothing, zero = ir.Constant(WORDS, ir.Undefined), ir.Constant(WORD, 0)

        def pair(i: Any, totals: Sequence[Any]) -> list[Any]:
            shift, new = builder.mul(i, ir.Constant(INDEX, WIDTH)), []
            vectors = [_load(builder, builder.gep(column, [shift]), WORDS) for column in columns]
            for r, row in enumerate(rows):
                one = builder.insert_element(nothing, builder.load(builder.gep(row, [i]), align=4), zero)
                same = builder.shuffle_vector(one, nothing, ir.Constant(WORDS, [0] * WIDTH))
                new += [fused_pairs(builder, same, x, totals[r * lines + v]) for v, x in enumerate(vectors)]
            return new

        def pairs(i: Any, totals: Sequence[Any]) -> list[Any]:
            for row in rows:
                expect(builder, row, builder.add(i, ir.Constant(INDEX, AHEAD)), level=3)
            for k in range(UNROLLED):
                totals = pair(builder.add(i, ir.Constant(INDEX, k)), totals)
            return list(totals)

        whole = builder.and_(count, ir.Constant(INDEX, -UNROLLED))
        totals = [ir.Constant(LINE, [0.0] * WIDTH)] * len(places)
        totals = loop(builder, ir.Constant(INDEX, 0), whole, UNROLLED, totals, pairs)
        for place, total in zip(results, loop(builder, whole, count, 1, totals, pair), strict=True):
            total = builder.fadd(_load(builder, place, LINE), total)
            builder.store(total, builder.bitcast(place, LINE.as_pointer()), align=4)
        return context.get_dummy_value()

    def tile(typingctx, weight, at, step, x, x_at, x_step, count, sums, to, wide):
        n = types.intp
        return types.void(weight, n, n, x, n, n, n, sums, n, n), emit

    return intrinsic(tile)


def _data(context: Any, builder: Any, signature: Any, args: Sequence[Any], which: Sequence[int]) -> list[Any]:
    """Pointers to the data of arrays among the arguments."""
    return [context.make_array(signature.args[i])(context, builder, args[i]).data for i in which]


def _along(builder: Any, array: Any, at: Any, step: Any, n: int, more: int = 0) -> Any:
    """A pointer to array[at + n step + more]."""
    place = builder.add(at, builder.mul(step, ir.Constant(INDEX, n)))
    return builder.gep(array, [builder.add(place, ir.Constant(INDEX, more))])


def _load(builder: Any, pointer: Any, form: Any) -> Any:
    """The vector that begins here."""
    return builder.load(builder.bitcast(pointer, form.as_pointer()), align=4)


@instruction
def _turn(typingctx, x, at, step, out, to, out_step):
    """out[to + j out_step + i] = x[at + i step + j]: 16 by 16 words of 32 bits, whatever they are."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        x, out = _data(context, builder, signature, args, (0, 3))
        lines = [_load(builder, _along(builder, x, args[1], args[2], i), WORDS) for i in range(WIDTH)]
        for s in (1, 2, 4, 8):  # blocks of s by s change places
            low = [j - s + WIDTH if j & s else j for j in range(WIDTH)]
            high = [j + WIDTH if j & s else j + s for j in range(WIDTH)]
            for i in range(WIDTH):
                if not i & s:
                    pair = lines[i], lines[i + s]
                    lines[i], lines[i + s] = (builder.shuffle_vector(*pair, ir.Constant(WORDS, m)) for m in (low, high))
        for j, line in enumerate(lines):
            place = _along(builder, out, args[4], args[5], j)
            builder.store(line, builder.bitcast(place, WORDS.as_pointer()), align=4)
        return context.get_dummy_value()

    n = types.intp
    return types.void(x, n, n, out, n, n), emit


_1x1, _1x2, _1x3, _1x4 = (_tile(1, lines) for lines in HEIGHTS)
_hx1, _hx2, _hx3, _hx4 = (_tile(height, lines) for lines, height in HEIGHTS.items())
_H1, _H2, _H3, _H4 = HEIGHTS.values()


@compiled()
def _tile_of(lines, tall, weight, at, step, x, x_step, count, sums, to, wide):
    """A tile, or one row where it is not `tall`, block of sums after block of sums."""
    for i in range(0, count, SUMMED):
        row, x_at, some = at + i, i * WIDTH, min(SUMMED, count - i)
        if lines == 4 and tall:
            _hx4(weight, row, step, x, x_at, x_step, some, sums, to, wide)
        elif lines == 3 and tall:
            _hx3(weight, row, step, x, x_at, x_step, some, sums, to, wide)
        elif lines == 2 and tall:
            _hx2(weight, row, step, x, x_at, x_step, some, sums, to, wide)
        elif tall:
            _hx1(weight, row, step, x, x_at, x_step, some, sums, to, wide)
        elif lines == 4:
            _1x4(weight, row, step, x, x_at, x_step, some, sums, to, wide)
        elif lines == 3:
            _1x3(weight, row, step, x, x_at, x_step, some, sums, to, wide)
        elif lines == 2:
            _1x2(weight, row, step, x, x_at, x_step, some, sums, to, wide)
        else:
            _1x1(weight, row, step, x, x_at, x_step, some, sums, to, wide)


@compiled()
def _block(weight, at, step, height, packed, lines, count, sums):
    """sums (height, WIDTH lines) = a block of rows times all lines: first whole tiles, whose rows lie far apart."""
    tall = _H4 if lines == 4 else _H3 if lines == 3 else _H2 if lines == 2 else _H1
    tiles, wide = height // tall, lines * WIDTH
    for i in range(height * wide):
        sums[np.uintp(i)] = np.float32(0)
    for t in range(tiles):
        _tile_of(
            lines, True, weight, at + t * step, tiles * step, packed, count * WIDTH, count, sums, t * wide, tiles * wide
        )  # fmt: skip
    for r in range(tiles * tall, height):
        _tile_of(lines, False, weight, at + r * step, step, packed, count * WIDTH, count, sums, r * wide, wide)


@compiled()
def _deliver(sums, wide, count, height, turned, out, at, out_step):
    """sums (height, wide) -> `count` rows of `out`, `height` numbers of each; `turned` has room for 16 by 16."""
    full_width()
    whole = height // WIDTH * WIDTH
    for b in range(0, count, WIDTH):
        some = min(WIDTH, count - b)
        for r in range(0, whole, WIDTH):
            _turn(sums, r * wide + b, wide, turned, 0, WIDTH)
            for i in range(some):
                to, come = np.uintp(at + (b + i) * out_step + r), np.uintp(i * WIDTH)
                for j in range(WIDTH):
                    out[to + np.uintp(j)] = narrow(turned[come + np.uintp(j)], out[0])
        for i in range(b, b + some):
            for r in range(whole, height):
                out[np.uintp(at + i * out_step + r)] = narrow(sums[np.uintp(r * wide + i)], out[0])


@compiled()
def _pack(x, x_step, batch, line, first, last, count, packed):
    """Pairs `first` to `last` of the vectors of a line -> packed (line, pair, vector); 0 where there is no vector."""
    at, to = line * WIDTH * x_step, line * WIDTH * count
    known = min(WIDTH, batch - line * WIDTH)
    whole = first + (last - first) // WIDTH * WIDTH if known == WIDTH else first
    for i in range(first, whole, WIDTH):
        _turn(x, at + i, x_step, packed, to + i * WIDTH, WIDTH)
    for v in range(WIDTH):
        for i in range(whole, last):
            packed[np.uintp(to + i * WIDTH + v)] = x[np.uintp(at + v * x_step + i)] if v < known else np.int32(0)


@compiled(parallel=True)
def pairs_product(weight, step, x, x_step, batch, count, packed, out, height):
    """out (batch, height) bfloat16 = rows of `count` pairs; all flat, bfloat16 as int16 and pairs of them as int32.

    `packed` is room for the pairs of all vectors, at most `MOST`, whose number is rounded up to a multiple of 16.
    """
    lines, parts = (batch + WIDTH - 1) // WIDTH, (count + PACKED - 1) // PACKED
    for part in prange(lines * parts):
        first = part % parts * PACKED
        _pack(x, x_step, batch, part // parts, first, min(count, first + PACKED), count, packed)
    for block in prange((height + BLOCK - 1) // BLOCK):
        first, tall = block * BLOCK, min(BLOCK, height - block * BLOCK)
        sums, turned = np.empty(BLOCK * MOST, np.float32), np.empty(WIDTH * WIDTH, np.float32)
        _block(weight, first * step, step, tall, packed, lines, count, sums)
        _deliver(sums, lines * WIDTH, batch, tall, turned, out, first, height)
