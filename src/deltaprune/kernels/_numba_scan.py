"""The recurrence of the scans on CPUs, written in LLVM's vectors.

Two rows go through a state while it is in registers, and their Δ and outputs stay there for all states; LLVM's own loop
over the channels read and wrote them for every state, and took up to twice as long. A row does the same to a state
whether it comes in a pair or alone, and whether its output is read or not: the state has the same bits.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from deltaprune.kernels._numba import compiled, full_width
from deltaprune.kernels._numba_blocks import LANES
from deltaprune.kernels._numba_products import FLAG, INDEX, LINE, WIDTH

LOG2E = np.float32(1.4426950408889634)
_LOWEST = -126.0  # 2^-126 is the smallest normal number
_SHIFT = 1.5 * 2**23  # adding it rounds to the nearest integer, which is then in the lowest bits
_POWERS = 1.0, 0.69314698, 0.24022242, 0.05550734, 0.00967151, 0.00132647  # of f, minimax
_WORDS = ir.VectorType(FLAG, WIDTH)
_ARGUMENTS: tuple[str, ...] = ("h", "a", "delta", "du", "y", "B", "C", "t", "row", "first", "order")


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c with one rounding, on every processor that has the instruction."""
    kind = ir.FunctionType(LINE, [LINE] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.fmuladd.v16f32"), [a, b, c])


def _all(number: float) -> Any:
    """A vector of one number, as float32 has it."""
    return ir.Constant(LINE, [float(np.float32(number))] * WIDTH)


def _power_of_two(builder: Any, x: Any) -> Any:
    """2^x for x < 127 as 2^k 2^f, |f| <= 1/2, by a polynomial of degree 5 that is exactly 1 at f = 0.

    Relative error 1.7e-7, of which the polynomial has 9.2e-8 and float32 the rest; x = Δ A log2(e) in float32 adds
    1.4e-7 |Δ A|. Below -126 it is 2^-126, the smallest normal number; NaN stays NaN.
    """
    lowest, shift = _all(_LOWEST), _all(_SHIFT)
    x = builder.select(builder.fcmp_ordered(">", lowest, x), lowest, x)
    shifted = builder.fadd(x, shift)
    f = builder.fsub(x, builder.fsub(shifted, shift))
    p = _all(_POWERS[-1])
    for power in _POWERS[-2::-1]:
        p = _fma(builder, p, f, _all(power))
    k = builder.shl(builder.bitcast(shifted, _WORDS), ir.Constant(_WORDS, [23] * WIDTH))
    return builder.bitcast(builder.add(builder.bitcast(p, _WORDS), k), LINE)


def _tile(rows: int, reads: bool) -> Any:
    """`rows` rows of WIDTH channels: h = 2^(delta a) h + du B and, if `reads`, y += C h; h and a are (N, LANES)."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        given: dict[str, Any] = dict(zip(_ARGUMENTS, args, strict=True))
        arrays = {
            name: context.make_array(form)(context, builder, given[name]).data
            for name, form in zip(_ARGUMENTS, signature.args, strict=True)
            if isinstance(form, types.Array)
        }

        def line(array: str, row: Any) -> Any:
            at = builder.add(builder.mul(row, ir.Constant(INDEX, LANES)), given["first"])
            return builder.bitcast(builder.gep(arrays[array], [at]), LINE.as_pointer())

        def load(array: str, row: Any) -> Any:
            return builder.load(line(array, row), align=4)

        def everywhere(array: str, row: Any, n: Any) -> Any:
            number = builder.load(builder.gep(arrays[array], [builder.add(builder.mul(row, given["order"]), n)]))
            vector = builder.insert_element(ir.Constant(LINE, ir.Undefined), number, ir.Constant(FLAG, 0))
            return builder.shuffle_vector(vector, ir.Constant(LINE, ir.Undefined), ir.Constant(_WORDS, [0] * WIDTH))

        inside = [builder.add(given["t"], ir.Constant(INDEX, r)) for r in range(rows)]
        source = [builder.add(given["row"], ir.Constant(INDEX, r)) for r in range(rows)]
        delta, du = ([load(name, t) for t in inside] for name in ("delta", "du"))

        def state(n: Any, totals: Sequence[Any]) -> list[Any]:
            a, h, sums = load("a", n), load("h", n), []
            for r in range(rows):
                decay = _power_of_two(builder, builder.fmul(delta[r], a))
                h = _fma(builder, decay, h, builder.fmul(du[r], everywhere("B", source[r], n)))
                if reads:
                    sums.append(_fma(builder, everywhere("C", source[r], n), h, totals[r]))
            builder.store(h, line("h", n), align=4)
            return sums

        outputs = [load("y", t) for t in inside] if reads else []
        for t, output in zip(inside, _for_each(builder, given["order"], outputs, state), strict=False):
            builder.store(output, line("y", t), align=4)
        return context.get_dummy_value()

    def tile(typingctx, h, a, delta, du, y, B, C, t, row, first, order):
        n = types.intp
        return types.void(h, a, delta, du, y, B, C, n, n, n, n), emit

    return intrinsic(tile)


def _for_each(builder: Any, count: Any, carried: Sequence[Any], body: Callable) -> list[Any]:
    """`for n in range(count): carried = body(n, carried)`."""
    zero, before = ir.Constant(INDEX, 0), builder.block
    head, inside, after = (builder.append_basic_block(name) for name in ("head", "inside", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    n, *values = (builder.phi(value.type) for value in (zero, *carried))
    builder.cbranch(builder.icmp_signed("<", n, count), inside, after)
    builder.position_at_end(inside)
    new = builder.add(n, ir.Constant(INDEX, 1)), *body(n, values)
    for phi, first, later in zip((n, *values), (zero, *carried), new, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(later, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return values


_write_1, _write_2, _read_1, _read_2 = (_tile(rows, reads) for reads in (False, True) for rows in (1, 2))


@compiled()
def write_state(h, a, delta, du, B, start, count):
    """h = 2^(delta a) h + du B: `count` rows of one block; B is (T, N), the others (N or ROWS, LANES)."""
    full_width()
    pairs = count - count % 2
    for first in range(0, LANES, WIDTH):
        for t in range(0, pairs, 2):
            _write_2(h, a, delta, du, du, B, B, t, start + t, first, len(h))
        if pairs < count:
            _write_1(h, a, delta, du, du, B, B, pairs, start + pairs, first, len(h))


@compiled()
def read_state(h, a, delta, du, y, B, C, start, count):
    """As `write_state`, and y += C h."""
    full_width()
    pairs = count - count % 2
    for first in range(0, LANES, WIDTH):
        for t in range(0, pairs, 2):
            _read_2(h, a, delta, du, y, B, C, t, start + t, first, len(h))
        if pairs < count:
            _read_1(h, a, delta, du, y, B, C, pairs, start + pairs, first, len(h))
