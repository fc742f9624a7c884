"""Vectors of 16 float32 numbers in LLVM, and the functions of them that the scans need.

All are IEEE operations in a fixed order, fused where `fused` says so, as in `_numba`: a lane's value does not depend on
its neighbours, nor on the width of the processor's own vectors.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from deltaprune.kernels._numba_vectors import LINE, WIDTH, WORD, fused, widened

WORDS = ir.VectorType(WORD, WIDTH)
LOG2E = np.float32(1.4426950408889634)
_LOWEST = -126.0  # 2^-126 is the smallest normal number
_SHIFT = 1.5 * 2**23  # adding it rounds to the nearest integer, which is then in the lowest bits
_POWERS = 1.0, 0.69314698, 0.24022242, 0.05550734, 0.00967151, 0.00132647  # 2^f, minimax
_LOGARITHM = (  # log(1 + e) / e, minimax
    1.0, -0.49999648, 0.333213226, -0.248571638, 0.191536554, -0.137538034, 0.0792045476, -0.0300657997, 0.00536482619,
)  # fmt: skip


def same(number: float) -> Any:
    """One number in all lanes."""
    return ir.Constant(LINE, [float(np.float32(number))] * WIDTH)


def place(builder: Any, data: Any, at: Any, kind: Any = types.float32) -> Any:
    """A pointer to the vector that begins with number `at` of an array of this type."""
    line = LINE if kind == types.float32 else ir.VectorType(ir.IntType(16), WIDTH)
    return builder.bitcast(builder.gep(data, [at]), line.as_pointer())


def read(builder: Any, data: Any, at: Any, kind: Any = types.float32) -> Any:
    """That vector, as float32; int16 are the bits of bfloat16, the upper half of a float32."""
    vector = builder.load(place(builder, data, at, kind), align=kind.bitwidth // 8)
    return widened(builder, vector, kind, WIDTH)


def write(builder: Any, vector: Any, data: Any, at: Any) -> None:
    """The vector, into an array of float32."""
    builder.store(vector, place(builder, data, at), align=4)


def expect(builder: Any, data: Any, at: Any, level: int = 2) -> None:
    """Ask for a place that is read soon; it may lie beyond the array. `level` 2 or, into the first cache, 3."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, WORD, WORD, WORD])
    prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    flags = (ir.Constant(WORD, flag) for flag in (0, level, 1))  # to read, where to, data
    builder.call(prefetch, [builder.bitcast(builder.gep(data, [at]), byte), *flags])


def everywhere(builder: Any, data: Any, at: Any) -> Any:
    """A single number of an array of float32, in all lanes."""
    nothing = ir.Constant(LINE, ir.Undefined)
    vector = builder.insert_element(nothing, builder.load(builder.gep(data, [at])), ir.Constant(WORD, 0))
    return builder.shuffle_vector(vector, nothing, ir.Constant(WORDS, [0] * WIDTH))


def _horner(builder: Any, coefficients: tuple[float, ...], x: Any) -> Any:
    total = same(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = fused(builder, total, x, same(coefficient))
    return total


def _times_power(builder: Any, p: Any, shifted: Any) -> Any:
    """p 2^k for `shifted = k + _SHIFT`, where no exponent gets out of range."""
    k = builder.shl(builder.bitcast(shifted, WORDS), ir.Constant(WORDS, [23] * WIDTH))
    return builder.bitcast(builder.add(builder.bitcast(p, WORDS), k), LINE)


def power_of_two(builder: Any, x: Any) -> Any:
    """2^x for x < 127 as 2^k 2^f, |f| <= 1/2, by a polynomial of degree 5 that is exactly 1 at f = 0.

    Relative error 1.7e-7, of which the polynomial has 9.2e-8 and float32 the rest. Below -126 it is 2^-126, the
    smallest normal number; NaN stays NaN.
    """
    lowest, shift = same(_LOWEST), same(_SHIFT)
    x = builder.select(builder.fcmp_ordered(">", lowest, x), lowest, x)
    shifted = builder.fadd(x, shift)
    f = builder.fsub(x, builder.fsub(shifted, shift))
    return _times_power(builder, _horner(builder, _POWERS, f), shifted)


def softplus(builder: Any, x: Any) -> Any:
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|), the latter by a polynomial of degree 9 in e^-|x|: no division.

    Relative error 4e-7 + 1.4e-8 |x| while it is above 1.3e-38, which is its least value; NaN stays NaN.
    """
    zero, lowest, shift, log2e = same(0.0), same(-87.3), same(_SHIFT), same(float(LOG2E))
    sign = ir.Constant(WORDS, [-(2**31)] * WIDTH)
    below = builder.bitcast(builder.or_(builder.bitcast(x, WORDS), sign), LINE)
    below = builder.select(builder.fcmp_ordered(">", lowest, below), lowest, below)
    shifted = fused(builder, below, log2e, shift)
    f = fused(builder, below, log2e, builder.fsub(shift, shifted))
    e = _times_power(builder, _horner(builder, _POWERS, f), shifted)
    above = builder.select(builder.fcmp_ordered(">", x, zero), x, zero)
    return fused(builder, _horner(builder, _LOGARITHM, e), e, above)
