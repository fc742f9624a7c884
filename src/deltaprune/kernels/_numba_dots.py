"""Rows of an int4 matrix times int8 vectors, four neighbours to an instruction (AVX512-VNNI).

A vector is cut into the matrix's groups of 32 numbers; each becomes int8 numbers and a scale of its own, as llama.cpp
does for its Q4_0. That moves a product by half a percent of its norm, where the rounding of the matrix moves it by
eight. Sums of whole numbers are exact, so that only groups are added in float32, and in a fixed order.

Four groups make a chunk, one 64-byte load of a row. The groups that are left at the end of a row make a chunk each.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from deltaprune.kernels._numba import compiled, full_width, instruction
from deltaprune.kernels._numba_groups import AHEAD, WORDS, load, number, prefetch, splat
from deltaprune.kernels._numba_vectors import BYTE, FLOAT, INDEX, LINE, WIDTH, WORD, fused, loop, total
from deltaprune.kernels.quantized import GROUP, OFFSET

LINES = ir.VectorType(BYTE, 4 * WIDTH)
LONG = ir.VectorType(INDEX, WIDTH // 2)
TOGETHER = 4  # groups in a chunk
CHUNK = GROUP * TOGETHER
QUARTER = WIDTH // TOGETHER  # lanes of a group


class _Chunk(NamedTuple):
    """A vector's part: both halves of its numbers, what their sums begin with, and their scales."""

    low: Any
    high: Any
    start: Any
    factor: Any


def dots(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """c + a b of 64 bytes, a without sign, b with one: lane i adds the products of bytes 4 i to 4 i + 3."""
    kind, name = ir.FunctionType(WORDS, [WORDS] * 3), "llvm.x86.avx512.vpdpbusd.512"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [c, builder.bitcast(a, WORDS), builder.bitcast(b, WORDS)])


def _filled(value: int) -> ir.Constant:
    return ir.Constant(LINES, [value] * 4 * WIDTH)


def _wide(builder: Any, pointer: Any, kind: ir.Type) -> Any:
    return builder.load(builder.bitcast(pointer, kind.as_pointer()), align=1)


def _numbers(builder: Any, row: Any, group: Any, groups: int) -> Any:
    """The bytes of a chunk; zeros after a chunk of one group."""
    where = builder.gep(row, [builder.mul(group, number(GROUP // 2))])
    if groups == TOGETHER:
        return _wide(builder, where, LINES)
    few = ir.VectorType(BYTE, WIDTH)
    rest = list(range(WIDTH)) + [WIDTH] * 3 * WIDTH
    picks = ir.Constant(ir.VectorType(WORD, 4 * WIDTH), rest)
    return builder.shuffle_vector(_wide(builder, where, few), ir.Constant(few, [0] * WIDTH), picks)


def _scales(builder: Any, scales: Any, group: Any, groups: int) -> Any:
    """The scales of a chunk's groups, each in the lanes of its sums."""
    where = builder.gep(scales, [group])
    each = _wide(builder, where, INDEX) if groups == TOGETHER else builder.zext(builder.load(where), INDEX)
    one = builder.insert_element(ir.Constant(LONG, ir.Undefined), each, ir.Constant(WORD, 0))
    spread = builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(WORD, WIDTH // 2), [0] * (WIDTH // 2)))
    zero, picks = 4 * WIDTH, []
    for lane in range(WIDTH):
        g = lane // QUARTER
        picks += [zero, zero, 16 * g + 2 * g, 16 * g + 2 * g + 1]  # within 16 bytes: one instruction
    lines = builder.bitcast(spread, LINES)
    upper = builder.shuffle_vector(lines, _filled(0), ir.Constant(ir.VectorType(WORD, 4 * WIDTH), picks))
    return builder.bitcast(upper, LINE)


def tile(height: int, vectors: int) -> Any:
    """Writes `_numba_quantized`'s tile where `x` is what `quantized_rows` gives, `x_at` and `x_step` in its chunks."""
    pairs = [(r, b) for r in range(height) for b in range(vectors)]

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        weight, scale, at, apart, width, x, x_at, x_step, out, out_at, out_step = args

        def memory(form: Any, array: Any) -> Any:
            return context.make_array(form)(context, builder, array).data

        weight, scale, out = (memory(signature.args[i], args[i]) for i in (0, 1, 8))
        parts = cgutils.unpack_tuple(builder, x)
        x, factor, start = (memory(form, part) for form, part in zip(signature.args[5], parts, strict=True))
        groups = builder.udiv(width, number(GROUP))
        whole = builder.and_(groups, number(-TOGETHER))
        steps = [builder.mul(apart, number(r)) for r in range(height)]
        first = [builder.mul(builder.add(at, step), groups) for step in steps]
        rows = [builder.gep(weight, [builder.mul(group, number(GROUP // 2))]) for group in first]
        scales = [builder.gep(scale, [group]) for group in first]
        columns = [builder.add(x_at, builder.mul(x_step, number(b))) for b in range(vectors)]

        def vector(chunk: Any) -> _Chunk:
            lanes, low = builder.mul(chunk, number(WIDTH)), builder.gep(x, [builder.mul(chunk, number(CHUNK))])
            high, at, by = (
                builder.gep(low, [number(4 * WIDTH)]),
                builder.gep(start, [lanes]),
                builder.gep(factor, [lanes]),
            )
            places = zip((low, high, at, by), (LINES, LINES, WORDS, LINE), strict=True)
            return _Chunk(*(_wide(builder, place, kind) for place, kind in places))

        def chunk(group: Any, place: Any, groups: int, sums: Sequence[Any]) -> list[Any]:
            prefetch(builder, rows, builder.add(builder.mul(group, number(GROUP // 2)), number(AHEAD)))
            both = [_numbers(builder, row, group, groups) for row in rows]
            w = [(builder.and_(each, _filled(15)), builder.lshr(each, _filled(4))) for each in both]
            of_rows = [_scales(builder, each, group, groups) for each in scales]
            vectors = [vector(builder.add(column, place)) for column in columns]
            parts = [dots(builder, w[r][0], vectors[b].low, vectors[b].start) for r, b in pairs]
            parts = [dots(builder, w[r][1], vectors[b].high, part) for (r, b), part in zip(pairs, parts, strict=True)]
            wide = [builder.sitofp(part, LINE) for part in parts]
            wide = [builder.fmul(part, vectors[b].factor) for (_, b), part in zip(pairs, wide, strict=True)]
            return [fused(builder, part, of_rows[r], s) for (r, _), part, s in zip(pairs, wide, sums, strict=True)]

        def four(i: Any, sums: Sequence[Any]) -> list[Any]:
            return chunk(i, builder.udiv(i, number(TOGETHER)), TOGETHER, sums)

        def one(i: Any, sums: Sequence[Any]) -> list[Any]:
            after = builder.add(builder.sub(i, whole), builder.udiv(whole, number(TOGETHER)))
            return chunk(i, after, 1, sums)

        sums = loop(builder, number(0), whole, TOGETHER, [ir.Constant(LINE, [0.0] * WIDTH)] * len(pairs), four)
        sums = loop(builder, whole, groups, 1, sums, one)
        for (r, b), lanes in zip(pairs, sums, strict=True):
            shift = builder.add(out_at, builder.mul(out_step, number(b)))
            builder.store(total(builder, lanes), builder.gep(out, [builder.add(shift, steps[r])]))
        return context.get_dummy_value()

    return emit


@instruction
def _quantize_group(typingctx, x, at, numbers, factor, chunk, position):
    """32 float32 numbers as group `position` of a chunk: their int8 numbers, and their scale in the group's lanes."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        values, at, numbers, factor, chunk, position = args
        values, numbers, factor = (
            context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 2, 3)
        )
        halves = [load(builder, values, builder.add(at, number(k)), FLOAT) for k in (0, WIDTH)]
        absolute = [_unary(builder, "llvm.fabs", half) for half in halves]
        larger = builder.select(builder.fcmp_ordered(">", *absolute), *absolute)
        kind = ir.FunctionType(FLOAT, [LINE])
        most = cgutils.get_or_insert_function(builder.module, kind, "llvm.vector.reduce.fmax.v16f32")
        largest = builder.call(most, [larger])
        some = builder.fcmp_ordered(">", largest, ir.Constant(FLOAT, 0.0))
        inverse = builder.select(some, builder.fdiv(ir.Constant(FLOAT, 127.0), largest), ir.Constant(FLOAT, 0.0))
        place = builder.add(builder.mul(chunk, number(CHUNK)), builder.mul(position, number(WIDTH)))
        for half, shift in zip(halves, (0, 4 * WIDTH), strict=True):
            whole = _unary(builder, "llvm.rint", builder.fmul(half, splat(builder, inverse)))
            small = builder.trunc(builder.fptosi(whole, WORDS), ir.VectorType(BYTE, WIDTH))
            into = builder.gep(numbers, [builder.add(place, number(shift))])
            builder.store(small, builder.bitcast(into, small.type.as_pointer()), align=1)
        lanes = ir.VectorType(FLOAT, QUARTER)
        scale = builder.fmul(largest, ir.Constant(FLOAT, 1 / 127))
        same = builder.shuffle_vector(
            splat(builder, scale), splat(builder, scale), ir.Constant(ir.VectorType(WORD, QUARTER), [0] * QUARTER)
        )
        at = builder.add(builder.mul(chunk, number(WIDTH)), builder.mul(position, number(QUARTER)))
        builder.store(same, builder.bitcast(builder.gep(factor, [at]), lanes.as_pointer()), align=1)
        return context.get_dummy_value()

    n = types.intp
    return types.void(x, n, numbers, factor, n, n), emit


@instruction
def _offset(typingctx, numbers, start, chunk):
    """What a sum of a chunk begins with, because the matrix's numbers are stored plus 8: minus 8 times the vector's."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        numbers, start = (context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 1))
        x = builder.gep(numbers, [builder.mul(args[2], number(CHUNK))])
        eights, sums = _filled(OFFSET), ir.Constant(WORDS, [0] * WIDTH)
        for shift in (0, 4 * WIDTH):
            sums = dots(builder, eights, _wide(builder, builder.gep(x, [number(shift)]), LINES), sums)
        into = builder.gep(start, [builder.mul(args[2], number(WIDTH))])
        builder.store(builder.neg(sums), builder.bitcast(into, WORDS.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(numbers, start, types.intp), emit


def _unary(builder: Any, name: str, line: Any) -> Any:
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(LINE, [LINE]), f"{name}.v16f32")
    return builder.call(function, [line])


@compiled()
def chunks_of(width):
    """Chunks of a vector."""
    groups = width // GROUP
    return groups // TOGETHER + groups % TOGETHER


@compiled()
def quantized_rows(x, width, batch):
    """float32 vectors, flat, as int8 numbers, the scale of each lane, and what its sum begins with; all flat."""
    full_width()
    groups, chunks = width // GROUP, chunks_of(width)
    whole = groups // TOGETHER
    numbers, factor = np.zeros(batch * chunks * CHUNK, np.int8), np.zeros(batch * chunks * WIDTH, np.float32)
    start = np.empty(batch * chunks * WIDTH, np.int32)
    for b in range(batch):
        for g in range(groups):
            c, position = (g // TOGETHER, g % TOGETHER) if g < whole * TOGETHER else (g - whole * (TOGETHER - 1), 0)
            _quantize_group(x, b * width + g * GROUP, numbers, factor, b * chunks + c, position)
        for c in range(chunks):
            _offset(numbers, start, b * chunks + c)
    return numbers, factor, start
