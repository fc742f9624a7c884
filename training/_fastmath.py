"""A 16-lane float32 vector type for numba kernels, with the few functions a selective scan needs.

LLVM vectorises loops over channels unreliably when many arrays may alias, so the kernels are written on explicit
``<16 x float>`` values: one AVX-512 register, two AVX registers, or whatever the machine has.
"""

# numba compiles these functions with other signatures than the ones written: intrinsics take a typing context first.
# pyright: reportCallIssue=false

import operator

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

LANES = 16
_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_VEC, _IVEC = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)
_ROUND = 12582912.0  # 1.5 * 2^23: adding it rounds a float to the nearest integer
# relative minimax polynomials: 2^f on [-1/2, 1/2]; 2 atanh(s) / s in s^2 on [0, 1/9]
_EXP2 = (1.0, 0.69314697, 0.2402212, 0.05550713, 0.00967554, 0.00132765)
_LOG1P = (2.0, 0.66666315, 0.4002491, 0.27960603, 0.28178334)


class Float32x16(types.Type):
    """The numba type of a vector of 16 float32 lanes."""

    def __init__(self):
        super().__init__(name="float32x16")


f32x16 = Float32x16()


@register_model(Float32x16)
class _Model(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _VEC)


def _operator(op, method):
    """Lower ``vector op vector`` to one LLVM instruction."""

    @infer_global(op)  # pyright: ignore[reportOptionalCall]
    class _Template(AbstractTemplate):
        def generic(self, args, kws):
            ok = len(args) == 2 and all(isinstance(a, Float32x16) for a in args)
            return signature(f32x16, *args) if ok else None

    @lower_builtin(op, Float32x16, Float32x16)
    def _lower(context, builder, sig, args):
        return getattr(builder, method)(*args)


for _op, _method in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _operator(_op, _method)


def _const(value):
    return ir.Constant(_VEC, [value] * LANES)


def _call(builder, name, *args):
    """Call the LLVM intrinsic ``name`` on vectors."""
    fnty = ir.FunctionType(_VEC, [_VEC] * len(args))
    return builder.call(cgutils.get_or_insert_function(builder.module, fnty, f"llvm.{name}.v{LANES}f32"), args)


def _splat(builder, scalar):
    first = builder.insert_element(ir.Constant(_VEC, ir.Undefined), scalar, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, ir.Constant(_VEC, ir.Undefined), ir.Constant(_IVEC, [0] * LANES))


def _pointer(context, builder, arrty, arr, idxty, idx):
    """Address of ``arr[idx]``, without bounds or wraparound checks."""
    array = context.make_array(arrty)(context, builder, arr)
    parts = cgutils.unpack_tuple(builder, idx, len(idxty))
    indices = [context.cast(builder, v, t, types.intp) for v, t in zip(parts, idxty, strict=True)]
    return cgutils.get_item_pointer(context, builder, arrty, array, indices, wraparound=False)


@intrinsic
def vload(typingctx, arr, idx):
    """The 16 floats that start at ``arr[idx]``; the last axis is contiguous."""

    def codegen(context, builder, sig, args):
        ptr = _pointer(context, builder, sig.args[0], args[0], sig.args[1], args[1])
        return builder.load(builder.bitcast(ptr, _VEC.as_pointer()), align=4, typ=_VEC)

    return f32x16(arr, idx), codegen


@intrinsic
def vstore(typingctx, arr, idx, vec):
    """Write 16 floats from ``arr[idx]`` on."""

    def codegen(context, builder, sig, args):
        ptr = _pointer(context, builder, sig.args[0], args[0], sig.args[1], args[1])
        builder.store(args[2], builder.bitcast(ptr, _VEC.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(arr, idx, vec), codegen


@intrinsic
def prefetch(typingctx, arrays, idx):
    """Ask for the cache line of ``arr[idx]`` of each array of a tuple; harmless outside the arrays."""

    def codegen(context, builder, sig, args):
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        fnty = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        fetch = cgutils.get_or_insert_function(builder.module, fnty, "llvm.prefetch.p0")
        read_keep_data = [ir.Constant(word, i) for i in (0, 3, 1)]
        for i, arrty in enumerate(sig.args[0]):
            ptr = _pointer(context, builder, arrty, builder.extract_value(args[0], i), sig.args[1], args[1])
            builder.call(fetch, [builder.bitcast(ptr, byte), *read_keep_data])
        return context.get_dummy_value()

    return types.void(arrays, idx), codegen


@intrinsic
def vspread(typingctx, arr, idx):
    """``arr[idx]`` in all lanes."""

    def codegen(context, builder, sig, args):
        ptr = _pointer(context, builder, sig.args[0], args[0], sig.args[1], args[1])
        return _splat(builder, builder.load(ptr))

    return f32x16(arr, idx), codegen


@intrinsic
def vfull(typingctx, value):
    """The number ``value`` in all lanes."""

    def codegen(context, builder, sig, args):
        return _splat(builder, context.cast(builder, args[0], sig.args[0], types.float32))

    return f32x16(value), codegen


@intrinsic
def vsum(typingctx, vec):
    """Sum of the lanes, a float32."""

    def codegen(context, builder, sig, args):
        vec, width = args[0], LANES
        while width > 1:
            width //= 2
            mask = ir.Constant(_IVEC, [(i + width) % LANES for i in range(LANES)])
            vec = builder.fadd(vec, builder.shuffle_vector(vec, vec, mask))
        return builder.extract_element(vec, ir.Constant(_INT, 0))

    return types.float32(vec), codegen


@intrinsic
def fma(typingctx, a, b, c):
    """``a * b + c``, fused where the machine can."""
    return f32x16(a, b, c), lambda context, builder, sig, args: _call(builder, "fmuladd", *args)


@intrinsic
def vmax(typingctx, a, b):
    """Lane-wise maximum."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return f32x16(a, b), codegen


@intrinsic
def exp2(typingctx, x):
    """``2 ** x`` to a relative error of 2e-7, for x <= 127; clamped at -126 below, NaN kept."""

    def codegen(context, builder, sig, args):
        low = _const(-126.0)
        x = builder.select(builder.fcmp_ordered(">", low, args[0]), low, args[0])
        shifted = builder.fadd(x, _const(_ROUND))
        frac = builder.fsub(x, builder.fsub(shifted, _const(_ROUND)))
        poly = _const(_EXP2[-1])
        for coef in reversed(_EXP2[:-1]):
            poly = _call(builder, "fmuladd", poly, frac, _const(coef))
        power = builder.shl(builder.bitcast(shifted, _IVEC), ir.Constant(_IVEC, [23] * LANES))
        return builder.bitcast(builder.add(builder.bitcast(poly, _IVEC), power), _VEC)

    return f32x16(x), codegen


@njit
def empty_aligned(shape):
    """An uninitialised float32 array of ``shape`` that starts on a cache line, as vectors want it."""
    size = 1
    for extent in shape:
        size *= extent
    buffer = np.empty(size + LANES, np.float32)
    skip = (-buffer.ctypes.data % 64) // 4
    return buffer[skip : skip + size].reshape(shape)


@njit(forceinline=True)
def exp_neg_abs(x):
    """``exp(-|x|)``, lane by lane."""
    return exp2(vmax(x, vfull(0.0) - x) * vfull(-1.4426950408889634))


@njit(forceinline=True)
def sigmoid(x):
    """``1 / (1 + exp(-x))``, written so that neither sign of x overflows: e = exp(-|x|), (1 or e) / (1 + e)."""
    e = exp_neg_abs(x)
    one = vfull(1.0)
    return select_positive(x, one, e) / (one + e)


@intrinsic
def select_positive(typingctx, x, a, b):
    """``a`` where x > 0, else ``b``."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", args[0], _const(0.0)), args[1], args[2])

    return f32x16(x, a, b), codegen


@njit(forceinline=True)
def softplus(x):
    """``max(x, 0) + log1p(e)`` with e = exp(-|x|) and log1p(e) = 2 atanh(e / (2 + e)): small values stay exact."""
    e = exp_neg_abs(x)
    s = e / (vfull(2.0) + e)
    q = s * s
    poly = fma(vfull(_LOG1P[4]), q, vfull(_LOG1P[3]))
    poly = fma(poly, q, vfull(_LOG1P[2]))
    poly = fma(poly, q, vfull(_LOG1P[1]))
    poly = fma(poly, q, vfull(_LOG1P[0]))
    return fma(poly, s, vmax(x, vfull(0.0)))
