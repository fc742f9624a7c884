"""What the numba backends share: compiling, launching, and float32 elementary functions that LLVM vectorises.

No fast-math: every operation is an IEEE float32 operation in a fixed order, fused where `fma` says so, hence a lane's
value depends neither on its neighbours nor on the number of threads. Only a long sum may be left to LLVM (`reorders`),
whose order then is the processor's, and still that of every run.
"""

import hashlib
import inspect
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba.core import config, types
from numba.extending import intrinsic
from torch import Tensor

_LOCK = threading.Lock()
_SHARED = sorted(Path(__file__).parent.glob("**/*numba*.py"))
_STAMP = hashlib.sha256(b"".join(path.read_bytes() for path in _SHARED)).hexdigest()[:8]
_WORK_PER_THREAD = 500_000  # steps, about a third of a millisecond: less is not worth waking a thread for


def compiled(parallel: bool = False, reorders: bool = False) -> Callable[[Callable], Any]:
    """Decorator: `numba.njit`, kept on disk where a folder can be written, compiled anew in each process elsewhere.

    numba's cache watches only the file of the kernel itself, so the hash of all of them goes into the kernel's name.
    Functions under it carry no annotations; `unwrap` takes off the shape checks that jaxtyping's import hook adds in
    tests.
    """

    def decorate(function: Callable) -> Any:
        function = inspect.unwrap(function)
        function.__qualname__ = f"{function.__qualname__}_{_STAMP}"
        options: dict[str, Any] = {"parallel": parallel, "nogil": True, "error_model": "numpy"}
        options["fastmath"] = {"reassoc", "contract"} if reorders else False
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # "cannot cache function: no locator available"
            return numba.njit(**options)(function)

    return decorate


def launch(kernel: Callable, work: int, *arguments: object) -> None:
    """Run a parallel kernel of `work` elementary steps on at most as many threads as torch uses.

    One at a time: numba's `workqueue` threading layer aborts the process when two Python threads enter it together.
    """
    threads = torch.get_num_threads()
    most = min(threads, config.NUMBA_NUM_THREADS)  # pyright: ignore[reportAttributeAccessIssue]
    with _LOCK:
        numba.set_num_threads(min(most, 1 + work // _WORK_PER_THREAD))
        kernel(*arguments)
    if torch.get_num_threads() != threads:  # numba's `omp` layer, when it starts, sets what torch reads
        torch.set_num_threads(threads)


def rows(x: Tensor) -> tuple[np.ndarray, int]:
    """A matrix `(T, E)`, also one cut out of a wider one, as flat memory and the step from row to row; no copy.

    bfloat16, which numpy lacks, is handed over as the int16 of the same bits; `widen` and `narrow` know.
    """
    x = x.detach()
    x = x if x.stride(1) == 1 else x.contiguous()
    step = x.stride(0) if len(x) > 1 else x.shape[1]
    flat = x.as_strided(((len(x) - 1) * step + x.shape[1],), (1,))
    return (flat.view(torch.int16) if x.dtype == torch.bfloat16 else flat).numpy(), step


def instruction(function: Callable) -> Any:
    """Decorator: a few LLVM instructions, written out, as a function for compiled code."""
    return intrinsic(inspect.unwrap(function))


@instruction
def fma(typingctx, a, b, c):
    """a b + c with one rounding, on every processor that has the instruction."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType()] * 3)
        function = builder.module.declare_intrinsic("llvm.fmuladd", [ir.FloatType()], kind)
        return builder.call(function, args)

    return types.float32(types.float32, types.float32, types.float32), codegen


@instruction
def full_width(typingctx):
    """Let the function that calls this use the processor's widest vectors; left alone, LLVM halves AVX-512."""

    def codegen(context, builder, signature, args):
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')  # llvmlite's own `add` has a fixed list
        return context.get_dummy_value()

    return types.void(), codegen


@instruction
def _power_of_two(typingctx, shifted):
    """2^k for `shifted = k + 1.5 * 2^23`, whose lowest bits hold k; 0 for k = -127."""

    def codegen(context, builder, signature, args):
        bits = builder.bitcast(args[0], ir.IntType(32))
        exponent = builder.add(bits, ir.Constant(ir.IntType(32), 127))
        return builder.bitcast(builder.shl(exponent, ir.Constant(ir.IntType(32), 23)), ir.FloatType())

    return types.float32(types.float32), codegen


@instruction
def widen(typingctx, x):
    """float32 as it is; int16 are the bits of a bfloat16, the upper half of a float32."""

    def codegen(context, builder, signature, args):
        if signature.args[0] == types.float32:
            return args[0]
        upper = builder.shl(builder.zext(args[0], ir.IntType(32)), ir.Constant(ir.IntType(32), 16))
        return builder.bitcast(upper, ir.FloatType())

    return types.float32(x), codegen


@instruction
def narrow(typingctx, x, like):
    """The inverse of `widen`, into the type of `like`: rounds to nearest even, NaN stays NaN."""

    def codegen(context, builder, signature, args):
        if signature.return_type == types.float32:
            return args[0]
        word = ir.IntType(32)
        bits = builder.bitcast(args[0], word)
        odd = builder.and_(builder.lshr(bits, ir.Constant(word, 16)), ir.Constant(word, 1))
        rounded = builder.add(bits, builder.add(odd, ir.Constant(word, 0x7FFF)))
        is_nan = builder.fcmp_unordered("uno", args[0], args[0])
        chosen = builder.select(is_nan, ir.Constant(word, 0x7FC00000), rounded)
        return builder.trunc(builder.lshr(chosen, ir.Constant(word, 16)), ir.IntType(16))

    return like(types.float32, like), codegen


_LOWEST = np.float32(-88.03)  # exp of less is 0 here; the smallest normal float32 is exp(-87.34)
_LOG2E = np.float32(1.4426950408889634)
_SHIFT = np.float32(1.5 * 2**23)  # adding it rounds to the nearest integer
_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)
_P1, _P2, _P3 = np.float32(0.6931472), np.float32(0.24022648), np.float32(0.055503324)
_P4, _P5, _P6 = np.float32(0.009618437), np.float32(0.0013398875), np.float32(0.00015353362)
_Q1, _Q2, _Q3 = np.float32(0.66666675), np.float32(0.3999889), np.float32(0.28616598)
_Q4, _Q5 = np.float32(0.2143074), np.float32(0.24289565)


@compiled()
def exp(x):
    """e^x for x <= 88 as 2^k 2^f, |f| <= 1/2, by a minimax polynomial that is exactly 1 at f = 0.

    Relative error 1.5e-7 + 1.4e-8 |x|: the second part is log2(e) in float32, less than the rounding of x itself.
    """
    x = _LOWEST if x < _LOWEST else x  # written so that NaN passes
    shifted = fma(x, _LOG2E, _SHIFT)
    f = fma(x, _LOG2E, _SHIFT - shifted)
    p = fma(fma(fma(fma(fma(_P6, f, _P5), f, _P4), f, _P3), f, _P2), f, _P1)
    return fma(p, f, _ONE) * _power_of_two(shifted)


@compiled()
def softplus(x):
    """log(1 + e^x) = max(x, 0) + log1p(e^-|x|), the latter by the series of artanh; above 17 it is x itself."""
    e = exp(-x if x > _ZERO else x)
    s = e / (e + _TWO)  # log1p(e) = 2 artanh(s), 0 <= s <= 1/3
    q = s * s
    tail = fma(fma(fma(fma(_Q5, q, _Q4), q, _Q3), q, _Q2), q, _Q1)
    return (x if x > _ZERO else _ZERO) + fma(s * q, tail, s + s)


@compiled()
def silu(x):
    """x / (1 + e^-x), with no large exponential on either side."""
    e = exp(-x if x > _ZERO else x)
    return x * ((_ONE if x > _ZERO else e) / (_ONE + e))


@compiled()
def sum_lanes(lane):
    """The sum of 2^k numbers by halves, hence in a fixed order; overwrites them."""
    half = len(lane) // 2
    while half > 0:
        for i in range(half):
            lane[i] += lane[i + half]
        half //= 2
    return lane[0]
