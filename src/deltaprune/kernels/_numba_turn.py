"""16 by 16 numbers of 32 bits, columns for rows, in registers: how vectors are packed and states change sides."""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import types

from deltaprune.kernels._numba import instruction
from deltaprune.kernels._numba_lines import WORDS
from deltaprune.kernels._numba_vectors import INDEX, WIDTH

HALF = WIDTH // 2


def data(context: Any, builder: Any, signature: Any, args: Sequence[Any], which: Sequence[int]) -> list[Any]:
    """Pointers to the data of arrays among the arguments."""
    return [context.make_array(signature.args[i])(context, builder, args[i]).data for i in which]


def along(builder: Any, array: Any, at: Any, step: Any, n: int, more: int = 0) -> Any:
    """A pointer to array[at + n step + more]."""
    place = builder.add(at, builder.mul(step, ir.Constant(INDEX, n)))
    return builder.gep(array, [builder.add(place, ir.Constant(INDEX, more))])


def load(builder: Any, pointer: Any, form: Any) -> Any:
    """The vector that begins here."""
    return builder.load(builder.bitcast(pointer, form.as_pointer()), align=4)


@instruction
def turn(typingctx, x, at, step, known, out, to, out_step):
    """out[to + j out_step + i] = x[at + row(i) step + j], i, j < 16: words of 32 bits, whatever they are.

    row(i) is i, or the last of the `known` ones; of up to 8 the second half repeats the first.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        x, out = data(context, builder, signature, args, (0, 4))
        _, at, step, known, _, to, out_step = args
        half = builder.icmp_signed("<=", known, ir.Constant(INDEX, HALF))
        end = builder.sub(known, ir.Constant(INDEX, 1))
        lines = []
        for i in range(WIDTH):
            row = builder.select(half, ir.Constant(INDEX, i % HALF), ir.Constant(INDEX, i))
            row = builder.select(builder.icmp_signed("<", row, end), row, end)
            lines.append(load(builder, builder.gep(x, [builder.add(at, builder.mul(step, row))]), WORDS))
        for s in (1, 2, 4, 8):  # blocks of s by s change places
            low = [j - s + WIDTH if j & s else j for j in range(WIDTH)]
            high = [j + WIDTH if j & s else j + s for j in range(WIDTH)]
            for i in range(WIDTH):
                if not i & s:
                    pair = lines[i], lines[i + s]
                    lines[i], lines[i + s] = (builder.shuffle_vector(*pair, ir.Constant(WORDS, m)) for m in (low, high))
        for j, line in enumerate(lines):
            place = along(builder, out, to, out_step, j)
            builder.store(line, builder.bitcast(place, WORDS.as_pointer()), align=4)
        return context.get_dummy_value()

    n = types.intp
    return types.void(x, n, n, n, out, n, n), emit
