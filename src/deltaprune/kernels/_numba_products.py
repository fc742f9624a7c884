"""Rows of a matrix times a few vectors, written in LLVM's vectors: the inner loop of every product of decoding.

Four rows at a time, each a stream through memory, times up to four vectors, whose numbers are then loaded once for four
rows. A sum has 16 lanes and is added in a fixed order, so that a result depends neither on how many vectors (two or
more) are multiplied at once nor on the processor's width. A single vector is bound by memory alone, which a single
stream reads fastest: one row at a time, in LLVM's order of adding. The matrix is float32 or bfloat16 (int16 of the same
bits), and is widened to float32 in registers.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from deltaprune.kernels._numba import compiled, widen

HEIGHT, WIDTH = 4, 16  # rows at a time; lanes of a sum
CACHE_LINE = 64  # bytes
BYTE, FLAG, INDEX, FLOAT = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
LINE = ir.VectorType(FLOAT, WIDTH)
ARGUMENTS: tuple[str, ...] = ("weight", "at", "step", "x", "x_at", "x_step", "count", "out", "out_at", "out_step")


def _widened(builder: Any, value: Any, kind: types.Type, lanes: int) -> Any:
    """A vector (or, with 0 lanes, one number) of the matrix as float32."""

    def of(element: ir.Type) -> ir.Type:
        return ir.VectorType(element, lanes) if lanes else element

    if kind == types.float32:
        return value
    word = of(FLAG)
    half = ir.Constant(word, [16] * lanes if lanes else 16)
    return builder.bitcast(builder.shl(builder.zext(value, word), half), of(FLOAT))


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c with one rounding, of vectors or numbers."""
    name = "llvm.fmuladd.v16f32" if a.type == LINE else "llvm.fmuladd.f32"
    kind = ir.FunctionType(a.type, [a.type] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])


def _sum(builder: Any, line: Any) -> Any:
    """All lanes, by halves."""
    lanes = WIDTH
    while lanes > 1:
        lanes //= 2
        low, high = (ir.Constant(ir.VectorType(FLAG, lanes), list(range(first, first + lanes))) for first in (0, lanes))
        line = builder.fadd(builder.shuffle_vector(line, line, low), builder.shuffle_vector(line, line, high))
    return builder.extract_element(line, ir.Constant(FLAG, 0))


def _prefetch(builder: Any, rows: Sequence[Any], shift: Any) -> None:
    """Ask for places that are needed soon: the processor foresees the rest of a row, and not the next one."""
    byte = BYTE.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, FLAG, FLAG, FLAG])
    prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    for row in rows:
        where = builder.bitcast(builder.gep(row, [shift]), byte)
        builder.call(prefetch, [where, *(ir.Constant(FLAG, flag) for flag in (0, 3, 1))])  # read, keep, data


def _loop(builder: Any, start: Any, stop: Any, step: int, carried: Sequence[Any], body: Callable) -> list[Any]:
    """`for i in range(start, stop, step): carried = body(i, carried)`; `stop - start` is a multiple of `step`."""
    before = builder.block
    head, inside, after = (builder.append_basic_block(name) for name in ("head", "inside", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    at, *values = (builder.phi(value.type) for value in (start, *carried))
    builder.cbranch(builder.icmp_signed("<", at, stop), inside, after)
    builder.position_at_end(inside)
    new = builder.add(at, ir.Constant(INDEX, step)), *body(at, values)
    for phi, first, later in zip((at, *values), (start, *carried), new, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(later, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return values


def _tile(height: int, vectors: int) -> Any:
    """out[out_at + r + b out_step] = Σ_i weight[at + r step + i] x[x_at + b x_step + i] for `height` r, `vectors` b."""
    pairs = [(r, b) for r in range(height) for b in range(vectors)]

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        given: dict[str, Any] = dict(zip(ARGUMENTS, args, strict=True))
        kind = signature.args[0].dtype
        element, held = context.get_data_type(kind), CACHE_LINE * 8 // kind.bitwidth  # numbers of a line of the cache
        arrays = {
            name: context.make_array(form)(context, builder, given[name]).data
            for name, form in zip(ARGUMENTS, signature.args, strict=True)
            if isinstance(form, types.Array)
        }

        def along(array: str, start: str, step: str, i: int) -> Any:
            shift = builder.add(given[start], builder.mul(given[step], ir.Constant(INDEX, i)))
            return builder.gep(arrays[array], [shift])

        def line(pointer: Any, form: ir.Type, i: Any) -> Any:
            where = builder.bitcast(builder.gep(pointer, [i]), ir.VectorType(form, WIDTH).as_pointer())
            return builder.load(where, align=context.get_abi_alignment(form))

        rows = [along("weight", "at", "step", r) for r in range(height)]
        columns = [along("x", "x_at", "x_step", b) for b in range(vectors)]
        next_rows = builder.mul(given["step"], ir.Constant(INDEX, height))

        def lines(i: Any, sums: Sequence[Any]) -> list[Any]:
            _prefetch(builder, rows, builder.add(i, next_rows))
            for k in range(0, held, WIDTH):
                at = builder.add(i, ir.Constant(INDEX, k))
                w = [_widened(builder, line(row, element, at), kind, WIDTH) for row in rows]
                x = [line(column, FLOAT, at) for column in columns]
                sums = [_fma(builder, w[r], x[b], total) for (r, b), total in zip(pairs, sums, strict=True)]
            return list(sums)

        def single(i: Any, sums: Sequence[Any]) -> list[Any]:
            w = [_widened(builder, builder.load(builder.gep(row, [i])), kind, 0) for row in rows]
            x = [builder.load(builder.gep(column, [i])) for column in columns]
            return [_fma(builder, w[r], x[b], total) for (r, b), total in zip(pairs, sums, strict=True)]

        whole, zero = builder.and_(given["count"], ir.Constant(INDEX, -held)), ir.Constant(INDEX, 0)
        sums = _loop(builder, zero, whole, held, [ir.Constant(LINE, [0.0] * WIDTH)] * len(pairs), lines)
        sums = _loop(builder, whole, given["count"], 1, [_sum(builder, each) for each in sums], single)
        for (r, b), total in zip(pairs, sums, strict=True):
            column = along("out", "out_at", "out_step", b)
            builder.store(total, builder.gep(column, [ir.Constant(INDEX, r)]))
        return context.get_dummy_value()

    def tile(typingctx, weight, at, step, x, x_at, x_step, count, out, out_at, out_step):
        n = types.intp
        return types.void(weight, n, n, x, n, n, n, out, n, n), emit

    return intrinsic(tile)


_1x1, _1x2, _1x3, _1x4 = (_tile(1, vectors) for vectors in (1, 2, 3, 4))
_4x1, _4x2, _4x3, _4x4 = (_tile(HEIGHT, vectors) for vectors in (1, 2, 3, 4))


@compiled()
def _row(weight, at, step, x, x_step, batch, count, out, out_at, out_step):
    """One row times all vectors."""
    for b in range(0, batch, 4):
        left, x_at, to = batch - b, b * x_step, out_at + b * out_step
        if left >= 4:
            _1x4(weight, at, step, x, x_at, x_step, count, out, to, out_step)
        elif left == 3:
            _1x3(weight, at, step, x, x_at, x_step, count, out, to, out_step)
        elif left == 2:
            _1x2(weight, at, step, x, x_at, x_step, count, out, to, out_step)
        else:
            _1x1(weight, at, step, x, x_at, x_step, count, out, to, out_step)


@compiled()
def _four_rows(weight, at, step, x, x_step, batch, count, out, out_at, out_step):
    """Four rows times all vectors; the rows come from the cache for the fifth vector and later ones."""
    for b in range(0, batch, 4):
        left, x_at, to = batch - b, b * x_step, out_at + b * out_step
        if left >= 4:
            _4x4(weight, at, step, x, x_at, x_step, count, out, to, out_step)
        elif left == 3:
            _4x3(weight, at, step, x, x_at, x_step, count, out, to, out_step)
        elif left == 2:
            _4x2(weight, at, step, x, x_at, x_step, count, out, to, out_step)
        else:
            _4x1(weight, at, step, x, x_at, x_step, count, out, to, out_step)


@compiled(reorders=True)
def _dot(weight, at, x, count):
    """A row times a single vector."""
    at, total = np.uintp(at), np.float32(0)
    for i in range(count):
        total += widen(weight[at + np.uintp(i)]) * x[i]
    return total


@compiled()
def multiply(weight, step, first, last, x, x_step, batch, count, out, out_step):
    """out[b out_step + r] = Σ_i weight[r step + i] x[b x_step + i], first <= r < last, b < batch, i < count.

    All three arrays are flat; x and out are float32.
    """
    r = first
    if batch == 1:
        while r < last:
            out[r] = _dot(weight, r * step, x, count)
            r += 1
    while last - r >= HEIGHT:
        _four_rows(weight, r * step, step, x, x_step, batch, count, out, r, out_step)
        r += HEIGHT
    while r < last:
        _row(weight, r * step, step, x, x_step, batch, count, out, r, out_step)
        r += 1
