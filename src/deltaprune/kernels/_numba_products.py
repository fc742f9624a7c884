"""Rows of a matrix times vectors: the inner loop of every product that is not left to torch.

A few rows at a time, each a stream through memory, times up to four vectors, whose numbers are then loaded once for all
rows. The rows of a tile lie far apart, so that each stream goes on where it ended in the tile before: the processor
foresees that, and not the jump to the next few rows.

A sum has 16 lanes, which are added in a fixed order over the whole row. Hence it depends on its row and its vector
alone: neither on how many others are multiplied with them nor on the number of threads.

Both are float32 or bfloat16 (int16 of the same bits). Two of bfloat16 are multiplied by the processor's own
instruction, where it has one; all else is widened to float32 in registers.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange
from numba.core import types
from numba.extending import intrinsic, overload

from deltaprune.kernels._numba import compiled, full_width, narrow, widen
from deltaprune.kernels._numba_vectors import INDEX, LINE, PAIRS, WIDE, WIDTH, fused, fused_pairs, loop, total, widened

HEIGHT = 6 if WIDE else 2  # rows at a time: with four vectors, as many sums as there are registers for
BLOCK = 96  # rows of a matrix that stay in the cache while many vectors go by
MANY = 16  # vectors, where more are called many
WHOLE = 24  # of so many rows a tile of either kind leaves none
HELD = 500_000  # bytes of vectors that stay in the cache while rows go by
ARGUMENTS: tuple[str, ...] = (
    "weight", "at", "step", "x", "x_at", "x_step", "count", "out", "out_at", "out_row", "out_step"
)  # fmt: skip


def _tile(height: int, vectors: int) -> Any:
    """out[out_at + r out_row + b out_step] = Σ_i weight[at + r step + i] x[x_at + b x_step + i], for all r and b."""
    pairs = [(r, b) for r in range(height) for b in range(vectors)]

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        given: dict[str, Any] = dict(zip(ARGUMENTS, args, strict=True))
        kinds = {
            name: form.dtype
            for name, form in zip(ARGUMENTS, signature.args, strict=True)
            if isinstance(form, types.Array)
        }
        forms = dict(zip(ARGUMENTS, signature.args, strict=True))
        arrays = {name: context.make_array(forms[name])(context, builder, given[name]).data for name in kinds}
        paired = PAIRS and kinds["weight"] == kinds["x"] == types.int16
        lanes, add = (2 * WIDTH, fused_pairs) if paired else (WIDTH, fused)

        def along(array: str, start: str, step: str, i: int) -> Any:
            shift = builder.add(given[start], builder.mul(given[step], ir.Constant(INDEX, i)))
            return builder.gep(arrays[array], [shift])

        def line(array: str, pointer: Any, i: Any) -> Any:
            form = context.get_data_type(kinds[array])
            where = builder.bitcast(builder.gep(pointer, [i]), ir.VectorType(form, lanes).as_pointer())
            value = builder.load(where, align=context.get_abi_alignment(form))
            return value if paired else widened(builder, value, kinds[array], lanes)

        def number(array: str, pointer: Any, i: Any) -> Any:
            return widened(builder, builder.load(builder.gep(pointer, [i])), kinds[array], 0)

        rows = [along("weight", "at", "step", r) for r in range(height)]
        columns = [along("x", "x_at", "x_step", b) for b in range(vectors)]

        def lines(i: Any, sums: Sequence[Any]) -> list[Any]:
            for k in range(0, 2 * WIDTH, lanes):
                at = builder.add(i, ir.Constant(INDEX, k))
                x, w = [line("x", column, at) for column in columns], [line("weight", row, at) for row in rows]
                sums = [add(builder, w[r], x[b], before) for (r, b), before in zip(pairs, sums, strict=True)]
            return list(sums)

        def single(i: Any, sums: Sequence[Any]) -> list[Any]:
            x, w = [number("x", column, i) for column in columns], [number("weight", row, i) for row in rows]
            return [fused(builder, w[r], x[b], before) for (r, b), before in zip(pairs, sums, strict=True)]

        whole, zero = builder.and_(given["count"], ir.Constant(INDEX, -2 * WIDTH)), ir.Constant(INDEX, 0)
        sums = loop(builder, zero, whole, 2 * WIDTH, [ir.Constant(LINE, [0.0] * WIDTH)] * len(pairs), lines)
        sums = loop(builder, whole, given["count"], 1, [total(builder, each) for each in sums], single)
        for (r, b), result in zip(pairs, sums, strict=True):
            place = builder.mul(given["out_row"], ir.Constant(INDEX, r))
            builder.store(result, builder.gep(along("out", "out_at", "out_step", b), [place]))
        return context.get_dummy_value()

    def tile(typingctx, weight, at, step, x, x_at, x_step, count, out, out_at, out_row, out_step):
        n = types.intp
        return types.void(weight, n, n, x, n, n, n, out, n, n, n), emit

    return intrinsic(tile)


_1x1, _1x2, _1x3, _1x4 = (_tile(1, vectors) for vectors in (1, 2, 3, 4))
_hx1, _hx2, _hx3, _hx4 = (_tile(HEIGHT, vectors) for vectors in (1, 2, 3, 4))


@compiled()
def _row(weight, at, x, x_step, begin, end, count, out, out_at, out_step):
    """One row times the vectors from `begin` to `end`."""
    for b in range(begin, end, 4):
        left, x_at, to = end - b, b * x_step, out_at + b * out_step
        if left >= 4:
            _1x4(weight, at, 0, x, x_at, x_step, count, out, to, 0, out_step)
        elif left == 3:
            _1x3(weight, at, 0, x, x_at, x_step, count, out, to, 0, out_step)
        elif left == 2:
            _1x2(weight, at, 0, x, x_at, x_step, count, out, to, 0, out_step)
        else:
            _1x1(weight, at, 0, x, x_at, x_step, count, out, to, 0, out_step)


@compiled()
def _rows(weight, at, step, x, x_step, begin, end, count, out, out_at, out_row, out_step):
    """`HEIGHT` rows times these vectors; the rows come from the cache for the fifth vector and later ones."""
    for b in range(begin, end, 4):
        left, x_at, to = end - b, b * x_step, out_at + b * out_step
        if left >= 4:
            _hx4(weight, at, step, x, x_at, x_step, count, out, to, out_row, out_step)
        elif left == 3:
            _hx3(weight, at, step, x, x_at, x_step, count, out, to, out_row, out_step)
        elif left == 2:
            _hx2(weight, at, step, x, x_at, x_step, count, out, to, out_row, out_step)
        else:
            _hx1(weight, at, step, x, x_at, x_step, count, out, to, out_row, out_step)


@compiled()
def multiply(weight, step, first, last, x, x_step, batch, count, out, out_step):
    """out[b out_step + r] = Σ_i weight[r step + i] x[b x_step + i], first <= r < last, b < batch, i < count.

    All three arrays are flat, `out` float32. More vectors than stay in the cache are taken part by part.
    """
    tiles, held = (last - first) // HEIGHT, max(4, HELD // (count * x.itemsize) // 4 * 4)
    for begin in range(0, batch, held):
        end = min(batch, begin + held)
        for at in range(first, first + tiles):
            _rows(weight, at * step, tiles * step, x, x_step, begin, end, count, out, at, tiles, out_step)
        for r in range(first + tiles * HEIGHT, last):
            _row(weight, r * step, x, x_step, begin, end, count, out, r, out_step)


@compiled()
def round_rows(out, out_step, batch, first, last, like):
    """Results of some rows of a matrix, to the type of `like` and back."""
    for b in range(batch):
        at = np.uintp(b * out_step + first)
        for i in range(last - first):
            out[at + np.uintp(i)] = widen(narrow(out[at + np.uintp(i)], like))


@compiled()
def stretch(rows, batch, threads):
    """Rows of a matrix per unit of work.

    A thread gets one unit, so that it reads one stretch of memory from end to end; with many vectors, small ones.
    """
    share = ((rows + threads - 1) // threads + WHOLE - 1) // WHOLE * WHOLE
    return share if batch <= MANY else min(share, BLOCK)


@compiled(parallel=True)
def matrix_product(weight, step, x, x_step, batch, count, out, height, threads):
    """out (batch, height), float32, rounded to the type of `weight`; all flat."""
    read, like, unit = operand(x, weight), weight[0], stretch(height, batch, threads)
    for block in prange((height + unit - 1) // unit):
        first, last = block * unit, min(height, block * unit + unit)
        multiply(weight, step, first, last, read, x_step, batch, count, out, height)
        round_rows(out, height, batch, first, last, like)


@compiled()
def _narrowed(x):
    full_width()
    y = np.empty(len(x), np.int16)
    for i in range(len(x)):
        y[np.uintp(i)] = narrow(x[np.uintp(i)], y[0])
    return y


@compiled()
def _widened(x):
    y = np.empty(len(x), np.float32)
    for i in range(len(x)):
        y[np.uintp(i)] = widen(x[np.uintp(i)])
    return y


def operand(x, weight):
    """Vectors, in float32 or the matrix's type, in the type in which `multiply` reads them fastest; in compiled code.

    A copy where that is another type. Nothing is lost if they have been rounded to the matrix's type.
    """
    raise NotImplementedError("for compiled code")


@overload(operand)
def _operand(x, weight):
    bits = weight.dtype == types.int16 and PAIRS
    if bits and x.dtype == types.float32:
        return lambda x, weight: _narrowed(x)
    if not bits and x.dtype == types.int16:
        return lambda x, weight: _widened(x)
    return lambda x, weight: x
