"""Groups of 32 int8 or int4 numbers, in LLVM's vectors: how they are read, and what adds them times vectors to sums."""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from deltaprune.kernels._numba_lines import WORDS
from deltaprune.kernels._numba_vectors import BYTE, FLOAT, HALF, INDEX, LINE, WIDTH, WORD, fused
from deltaprune.kernels.quantized import GROUP, OFFSET

AHEAD = 512  # bytes of a row that are asked for before they are needed


def words(value: int) -> ir.Constant:
    return ir.Constant(WORDS, [value] * WIDTH)


def number(value: int) -> ir.Constant:
    return ir.Constant(INDEX, value)


def load(builder: Any, pointer: Any, i: Any, element: ir.Type) -> Any:
    """16 neighbours, at any address."""
    where = builder.bitcast(builder.gep(pointer, [i]), ir.VectorType(element, WIDTH).as_pointer())
    return builder.load(where, align=1)


def prefetch(builder: Any, rows: Sequence[Any], shift: Any) -> None:
    """Ask for places that are needed soon."""
    byte = BYTE.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, WORD, WORD, WORD])
    prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    for row in rows:
        where = builder.bitcast(builder.gep(row, [shift]), byte)
        builder.call(prefetch, [where, *(ir.Constant(WORD, flag) for flag in (0, 3, 1))])  # read, keep, data


def int8(builder: Any, row: Any, i: Any) -> tuple[Any, Any]:
    """The group of a row that begins with number i, as float32: its first and its second half."""
    lines = (load(builder, row, builder.add(i, number(k)), BYTE) for k in (0, WIDTH))
    first, second = (builder.sitofp(builder.sext(line, WORDS), LINE) for line in lines)
    return first, second


def int4(builder: Any, row: Any, i: Any) -> tuple[Any, Any]:
    """The same of an int4 row, without the scale."""
    both = builder.zext(load(builder, row, builder.lshr(i, number(1)), BYTE), WORDS)

    def half(mask: int, power: int) -> Any:
        """The bits under the mask as the last digits of 2^power, which is then taken off: cheaper than converting."""
        digits = builder.or_(builder.and_(both, words(mask)), words(127 + power << 23))
        return builder.fsub(builder.bitcast(digits, LINE), ir.Constant(LINE, [2.0**power + OFFSET] * WIDTH))

    return half(0x0F, 23), half(0xF0, 19)


def everywhere(builder: Any, scales: Any, group: Any) -> Any:
    """A group's scale, the int16 of a bfloat16's bits, in all lanes."""
    bits = builder.zext(builder.load(builder.gep(scales, [group])), WORD)
    return splat(builder, builder.bitcast(builder.shl(bits, ir.Constant(WORD, 16)), FLOAT))


def splat(builder: Any, number: Any) -> Any:
    """A float32 in all lanes."""
    one = builder.insert_element(ir.Constant(LINE, ir.Undefined), number, ir.Constant(WORD, 0))
    return builder.shuffle_vector(one, one, words(0))


def narrowed(builder: Any, line: Any) -> Any:
    """Finite float32 as the bits of bfloat16, rounded to nearest even."""
    bits = builder.bitcast(line, WORDS)
    odd = builder.and_(builder.lshr(bits, words(16)), words(1))
    rounded = builder.add(bits, builder.add(odd, words(0x7FFF)))
    return builder.trunc(builder.lshr(rounded, words(16)), ir.VectorType(HALF, WIDTH))


def one_group(bits: int, height: int, vectors: int) -> Callable[..., list[Any]]:
    """What adds one group of every row times its part of every vector to the sums, row by row."""
    pairs = [(r, b) for r in range(height) for b in range(vectors)]
    numbers = int8 if bits == 8 else int4

    def add(
        builder: Any, rows: Sequence[Any], scales: Sequence[Any], columns: Sequence[Any], line: Any, i: Any, sums: Any
    ) -> Any:
        w = [numbers(builder, row, i) for row in rows]
        x = [[line(column, builder.add(i, number(k))) for k in (0, WIDTH)] for column in columns]
        factors = [everywhere(builder, row, builder.udiv(i, number(GROUP))) for row in scales]
        if factors:
            w = [[builder.fmul(half, factor) for half in halves] for halves, factor in zip(w, factors, strict=True)]
        for half in (0, 1):
            sums = [fused(builder, w[r][half], x[b][half], s) for (r, b), s in zip(pairs, sums, strict=True)]
        return sums

    return add
