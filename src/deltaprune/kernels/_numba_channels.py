"""One row's recurrence of 16 channels of 16 states, the usual number, in LLVM's vectors: the scan of decoding.

A channel's states are one vector. The outputs of 16 channels are added up together, by halves, which takes a third of
the instructions of 16 sums one by one.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import types

from deltaprune.kernels._numba import instruction
from deltaprune.kernels._numba_lines import WORDS, everywhere, power_of_two, read, write
from deltaprune.kernels._numba_vectors import INDEX, WIDTH, fused

_ARGUMENTS: tuple[str, ...] = (
    "a", "delta", "du", "before", "after", "projected", "y", "i", "channel", "sample", "B", "C"
)  # fmt: skip
_HALVES = (  # of two vectors: the numbers that are added to the others, which lie `apart` places further
    ([0, 16, 1, 17], 2, 4),
    ([0, 1, 16, 17], 2, 4),
    ([0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27], 4, 16),
    ([0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27], 4, 16),
)


def sums(builder: Any, vectors: Sequence[Any]) -> Any:
    """The sums of 16 vectors, in order."""
    left = list(vectors)
    for places, apart, period in _HALVES:
        first = [place + start for start in range(0, WIDTH, period) for place in places]
        halves = [ir.Constant(WORDS, first), ir.Constant(WORDS, [place + apart for place in first])]
        left = [
            builder.fadd(*(builder.shuffle_vector(a, b, half) for half in halves))
            for a, b in zip(left[::2], left[1::2], strict=True)
        ]
    return left[0]


@instruction
def recur(typingctx, a, delta, du, before, after, projected, y, i, channel, sample, B, C):
    """h = 2^(delta a) h + du B and y = C h of channels `channel` to `channel + 15`.

    They are at place `i` of `delta`, `du` and `y`; their sample's states begin at `sample`, and B and C in `projected`
    at the places of these names.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        given = {
            name: context.make_array(form)(context, builder, value).data if isinstance(form, types.Array) else value
            for name, form, value in zip(_ARGUMENTS, signature.args, args, strict=True)
        }
        B, C = (read(builder, given["projected"], given[name]) for name in ("B", "C"))
        products = []
        for k in range(WIDTH):
            next_one = ir.Constant(INDEX, k)
            at = builder.mul(builder.add(given["channel"], next_one), ir.Constant(INDEX, WIDTH))
            old, here = builder.add(given["sample"], at), builder.add(given["i"], next_one)
            delta, du = (everywhere(builder, given[name], here) for name in ("delta", "du"))
            decay = power_of_two(builder, builder.fmul(delta, read(builder, given["a"], at)))
            h = fused(builder, decay, read(builder, given["before"], old), builder.fmul(du, B))
            write(builder, h, given["after"], old)
            products.append(builder.fmul(C, h))
        write(builder, sums(builder, products), given["y"], given["i"])
        return context.get_dummy_value()

    n = types.intp
    return types.void(a, delta, du, before, after, projected, y, n, n, n, n, n), emit
