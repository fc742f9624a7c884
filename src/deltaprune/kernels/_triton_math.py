"""What the Triton kernels are made of: the decorator, and float32 elementary functions.

The GPU's `ex2.approx` is within 2 units in the last place; everything else is float32 with contraction to FMA.
"""

import inspect
from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl


def kernel(function: Callable | None = None, /, **options: object) -> Any:
    """Decorator: `triton.jit` on the function as written.

    `unwrap` takes off the shape checks that jaxtyping's import hook adds in tests; Triton reads source, not wrappers.
    """
    if function is None:
        return lambda function: kernel(function, **options)
    return triton.jit(inspect.unwrap(function), **options)  # pyright: ignore


LOG2E = tl.constexpr(1.4426950408889634)
_Q1 = tl.constexpr(0.66666675)
_Q2 = tl.constexpr(0.3999889)
_Q3 = tl.constexpr(0.28616598)
_Q4 = tl.constexpr(0.2143074)
_Q5 = tl.constexpr(0.24289565)


@kernel
def softplus(x):
    """log(1 + e^x) = max(x, 0) + log1p(e^-|x|), the latter by the series of artanh, exact where e^x is tiny."""
    e = tl.exp2(-tl.abs(x) * LOG2E)
    s = e / (e + 2)  # log1p(e) = 2 artanh(s), 0 <= s <= 1/3
    q = s * s
    tail = (((_Q5 * q + _Q4) * q + _Q3) * q + _Q2) * q + _Q1
    return tl.where(x > 0, x, 0.0) + (s * q * tail + (s + s))


@kernel
def silu(x):
    """x / (1 + e^-x), with no large exponential on either side."""
    e = tl.exp2(-tl.abs(x) * LOG2E)
    return x * (tl.where(x > 0, 1.0, e) / (1 + e))
