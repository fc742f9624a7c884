"""What the Triton kernels are made of: the decorator, and float32 elementary functions.

A GPU evaluates 16 exponentials or reciprocals per multiprocessor and cycle (`ex2.approx`, `rsqrt.approx`: within 2
units in the last place), but 128 multiplications: there is no division here. All is float32 with contraction to FMA.
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
_Q0 = tl.constexpr(-0.4999965727329254)
_Q1 = tl.constexpr(0.33321481943130493)
_Q2 = tl.constexpr(-0.24858339130878448)
_Q3 = tl.constexpr(0.19157934188842773)
_Q4 = tl.constexpr(-0.1376236081123352)
_Q5 = tl.constexpr(0.07930036634206772)
_Q6 = tl.constexpr(-0.030122144147753716)
_Q7 = tl.constexpr(0.00537837715819478)


@kernel
def softplus(x):
    """log(1 + e^x) = max(x, 0) + log1p(e^-|x|); log1p(e) = e + e² Q(e), Q minimax on [0, 1], exact where e is tiny."""
    e = tl.exp2(-tl.abs(x) * LOG2E)
    q = ((((((_Q7 * e + _Q6) * e + _Q5) * e + _Q4) * e + _Q3) * e + _Q2) * e + _Q1) * e + _Q0
    return tl.where(x > 0, x, 0.0) + (e * e * q + e)


@kernel
def silu(x):
    """x / (1 + e^-x), as -2^-126 |x| where e^-x is larger. A reciprocal's root is one instruction, a quotient five."""
    root = tl.rsqrt(1 + tl.exp2(tl.minimum(-x * LOG2E, 126.0)))
    return x * (root * root)
