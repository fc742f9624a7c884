"""A quantized matrix widened to float32 or bfloat16, for products of many rows."""

from collections.abc import Sequence
from typing import Any

from numba import prange
from numba.core import types
from numba.extending import intrinsic

from deltaprune.kernels._numba import compiled, full_width
from deltaprune.kernels._numba_groups import everywhere, int4, int8, narrowed, number, splat
from deltaprune.kernels._numba_vectors import PAIRS, WIDTH, loop, rounded_pair
from deltaprune.kernels.quantized import GROUP


def _widener() -> Any:
    """Row r of the matrix, numbers times scales rounded once, to out[to:]: float32, or bfloat16 as int16."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        named = {"weight": 0, "scale": 1, "out": 4}
        arrays = {n: context.make_array(signature.args[i])(context, builder, args[i]).data for n, i in named.items()}
        (_, _, r, width, _, to), rounds = args, signature.args[4].dtype == types.int16
        bits = 8 if signature.args[0].dtype == types.int8 else 4
        at = builder.mul(r, width)
        row = builder.gep(arrays["weight"], [builder.udiv(at, number(8 // bits))])
        into = builder.gep(arrays["out"], [to])

        def group(i: Any, _: Sequence[Any]) -> list[Any]:
            if bits == 8:
                halves, factor = (
                    int8(builder, row, i),
                    splat(builder, builder.load(builder.gep(arrays["scale"], [r]))),
                )
            else:
                scale_at = builder.udiv(builder.add(at, i), number(GROUP))
                halves, factor = int4(builder, row, i), everywhere(builder, arrays["scale"], scale_at)
            first, second = (builder.fmul(half, factor) for half in halves)
            values = {0: first, WIDTH: second}
            if rounds and PAIRS:
                values = {0: rounded_pair(builder, first, second)}
            elif rounds:
                values = {k: narrowed(builder, value) for k, value in values.items()}
            for k, value in values.items():
                where = builder.gep(into, [builder.add(i, number(k))])
                builder.store(value, builder.bitcast(where, value.type.as_pointer()), align=2)
            return []

        loop(builder, number(0), width, GROUP, [], group)
        return context.get_dummy_value()

    def widen_row(typingctx, weight, scale, r, width, out, to):
        n = types.intp
        return types.void(weight, scale, n, n, out, n), emit

    return intrinsic(widen_row)


widen_row = _widener()


@compiled(parallel=True)
def widen_matrix(weight, scale, rows, width, out):
    """The whole matrix in the type of `out`, all flat."""
    for r in prange(rows):
        full_width()
        widen_row(weight, scale, r, width, out, r * width)
