"""Compiled code written in LLVM's vectors: 16 float32 at a time, in registers whose use is not left to a compiler."""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from llvmlite.binding import llvm_version_info
from numba.core import cgutils, types
from numba.core.registry import cpu_target

_TARGET: Any = cpu_target.target_context
PROCESSOR, _FEATURES = _TARGET.codegen().magic_tuple()[1:]  # what LLVM compiles for, in its own words
WIDE, _PAIRS, BYTES, TILES = (
    "+" + feature in _FEATURES.split(",") for feature in ("avx512f", "avx512bf16", "avx512vnni", "amx-bf16")
)
LLVM = 16  # since when the instruction takes `bfloat`
PAIRS = _PAIRS and llvm_version_info[0] >= LLVM
WIDTH = 16  # lanes of a vector, two or four registers' where they are narrower
BYTE, HALF, WORD, INDEX, FLOAT = (*(ir.IntType(bits) for bits in (8, 16, 32, 64)), ir.FloatType())
LINE = ir.VectorType(FLOAT, WIDTH)


class _Bfloat(ir.Type):
    """LLVM's own bfloat16, which llvmlite lacks."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bfloat)

    def __hash__(self) -> int:
        return hash(_Bfloat)


def widened(builder: Any, value: Any, kind: types.Type, lanes: int) -> Any:
    """A vector (or, with 0 lanes, one number) as float32; int16 are the bits of bfloat16."""

    def of(element: ir.Type) -> ir.Type:
        return ir.VectorType(element, lanes) if lanes else element

    if kind == types.float32:
        return value
    word = of(WORD)
    half = ir.Constant(word, [16] * lanes if lanes else 16)
    return builder.bitcast(builder.shl(builder.zext(value, word), half), of(FLOAT))


def fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c with one rounding, of vectors or numbers."""
    name = "llvm.fmuladd.v16f32" if a.type == LINE else "llvm.fmuladd.f32"
    kind = ir.FunctionType(a.type, [a.type] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])


def fused_pairs(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """c + a b of 32 bfloat16, where `PAIRS`: lane i adds the products of numbers 2 i and 2 i + 1."""
    pairs = ir.VectorType(_Bfloat(), 2 * WIDTH)
    kind, name = ir.FunctionType(LINE, [LINE, pairs, pairs]), "llvm.x86.avx512bf16.dpbf16ps.512"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [c, builder.bitcast(a, pairs), builder.bitcast(b, pairs)])


def rounded_pair(builder: Any, first: Any, second: Any) -> Any:
    """The bits of 32 bfloat16, where `PAIRS`: two lines, rounded to nearest even; numbers below 1e-38 are 0."""
    kind = ir.FunctionType(ir.VectorType(_Bfloat(), 2 * WIDTH), [LINE, LINE])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512bf16.cvtne2ps2bf16.512")
    return builder.bitcast(builder.call(function, [second, first]), ir.VectorType(HALF, 2 * WIDTH))


def total(builder: Any, line: Any) -> Any:
    """The sum of all lanes, by halves."""
    lanes = WIDTH
    while lanes > 1:
        lanes //= 2
        low, high = (ir.Constant(ir.VectorType(WORD, lanes), list(range(first, first + lanes))) for first in (0, lanes))
        line = builder.fadd(builder.shuffle_vector(line, line, low), builder.shuffle_vector(line, line, high))
    return builder.extract_element(line, ir.Constant(WORD, 0))


def loop(builder: Any, start: Any, stop: Any, step: int, carried: Sequence[Any], body: Callable) -> list[Any]:
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
