"""The rows of the scans on CPUs, written in LLVM's vectors: what enters the recurrence, and the recurrence.

Two rows go through a state while it is in registers, and their Δ and outputs stay there for all states; LLVM's own loop
over the channels read and wrote them for every state, and took up to twice as long. A row does the same to a state
whether it comes in a pair or alone, and whether its output is read or not: the state has the same bits.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from deltaprune.kernels._numba import compiled, full_width
from deltaprune.kernels._numba_blocks import LANES, ROWS
from deltaprune.kernels._numba_lines import everywhere, expect, power_of_two, read, softplus, write
from deltaprune.kernels._numba_vectors import INDEX, WIDTH, fused, loop

_ARGUMENTS: tuple[str, ...] = ("h", "a", "delta", "du", "y", "B", "C", "t", "row", "first", "order")
_OPENED: tuple[str, ...] = (
    "u", "u_at", "u_next", "dt", "dt_at", "dt_next", "z", "z_next", "shift", "skip", "du", "delta", "y", "first", "at"
)  # fmt: skip


def _given(names: tuple[str, ...], context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> dict[str, Any]:
    """What an intrinsic was called with: numbers, and pointers to the data of arrays."""
    return {
        name: context.make_array(form)(context, builder, value).data if isinstance(form, types.Array) else value
        for name, form, value in zip(names, signature.args, args, strict=True)
    }


def _opening(reads: bool) -> Any:
    """WIDTH channels of one row: delta = softplus(dt + shift), du = delta u and, if `reads`, y = skip u.

    The processor does not foresee which rows come next, since they are in other pages: it is told, an opening ahead.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        given, kind = _given(_OPENED, context, builder, signature, args), signature.args[0].dtype
        u, dt = (read(builder, given[name], given[f"{name}_at"], kind) for name in ("u", "dt"))
        shift, skip = (read(builder, given[name], given["first"]) for name in ("shift", "skip"))
        for name in ("u", "dt", "z") if reads else ("u", "dt"):
            expect(builder, given[name], given[f"{name}_next"])
        delta = softplus(builder, builder.fadd(dt, shift))
        write(builder, delta, given["delta"], given["at"])
        write(builder, builder.fmul(delta, u), given["du"], given["at"])
        if reads:
            write(builder, builder.fmul(skip, u), given["y"], given["at"])
        return context.get_dummy_value()

    def opening(typingctx, u, u_at, u_next, dt, dt_at, dt_next, z, z_next, shift, skip, du, delta, y, first, at):
        n = types.intp
        return types.void(u, n, n, dt, n, n, z, n, shift, skip, du, delta, y, n, n), emit

    return intrinsic(opening)


def _recurrence(rows: int, reads: bool) -> Any:
    """`rows` rows of WIDTH channels: h = 2^(delta a) h + du B and, if `reads`, y += C h; h and a are (N, LANES)."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        given = _given(_ARGUMENTS, context, builder, signature, args)

        def place(row: Any) -> Any:
            return builder.add(builder.mul(row, ir.Constant(INDEX, LANES)), given["first"])

        def shared(array: str, row: Any, n: Any) -> Any:
            return everywhere(builder, given[array], builder.add(builder.mul(row, given["order"]), n))

        inside = [place(builder.add(given["t"], ir.Constant(INDEX, r))) for r in range(rows)]
        source = [builder.add(given["row"], ir.Constant(INDEX, r)) for r in range(rows)]
        delta, du = ([read(builder, given[name], at) for at in inside] for name in ("delta", "du"))

        def state(n: Any, totals: Sequence[Any]) -> list[Any]:
            at, sums = place(n), []
            a, h = read(builder, given["a"], at), read(builder, given["h"], at)
            for r in range(rows):
                decay = power_of_two(builder, builder.fmul(delta[r], a))
                h = fused(builder, decay, h, builder.fmul(du[r], shared("B", source[r], n)))
                if reads:
                    sums.append(fused(builder, shared("C", source[r], n), h, totals[r]))
            write(builder, h, given["h"], at)
            return sums

        outputs = [read(builder, given["y"], at) for at in inside] if reads else []
        for at, output in zip(inside, _for_each(builder, given["order"], outputs, state), strict=False):
            write(builder, output, given["y"], at)
        return context.get_dummy_value()

    def recurrence(typingctx, h, a, delta, du, y, B, C, t, row, first, order):
        n = types.intp
        return types.void(h, a, delta, du, y, B, C, n, n, n, n), emit

    return intrinsic(recurrence)


def _for_each(builder: Any, count: Any, carried: Sequence[Any], body: Callable) -> list[Any]:
    """`for n in range(count): carried = body(n, carried)`."""
    return loop(builder, ir.Constant(INDEX, 0), count, 1, carried, body)


_open_to_write, _open_to_read = (_opening(reads) for reads in (False, True))
_write_1, _write_2, _read_1, _read_2 = (_recurrence(rows, reads) for reads in (False, True) for rows in (1, 2))


@compiled()
def open_to_write(du, delta, shift, u, u_base, u_step, dt, dt_base, dt_step, count):
    """Rows of a whole block of u, dt -> Δ u in `du`, Δ in `delta`, both (ROWS, LANES)."""
    full_width()
    for t in range(count):
        for i in range(0, LANES, WIDTH):
            u_at, dt_at = u_base + t * u_step + i, dt_base + t * dt_step + i
            u_next, dt_next, to = u_at + ROWS * u_step, dt_at + ROWS * dt_step, t * LANES + i
            _open_to_write(u, u_at, u_next, dt, dt_at, dt_next, dt, 0, shift, shift, du, delta, delta, i, to)


@compiled()
def open_to_read(du, delta, y, shift, skip, u, u_base, u_step, dt, dt_base, dt_step, z, z_base, z_step, count):
    """As `open_to_write`, and D u in `y (ROWS, LANES)`; z is only expected."""
    full_width()
    for t in range(count):
        for i in range(0, LANES, WIDTH):
            u_at, dt_at, z_next = u_base + t * u_step + i, dt_base + t * dt_step + i, z_base + t * z_step + i
            u_next, dt_next, to = u_at + ROWS * u_step, dt_at + ROWS * dt_step, t * LANES + i
            _open_to_read(u, u_at, u_next, dt, dt_at, dt_next, z, z_next, shift, skip, du, delta, y, i, to)


@compiled()
def write_state(h, a, delta, du, B, start, count):
    """h = 2^(delta a) h + du B: `count` rows of one block; B is (T, N), the others (N or ROWS, LANES).

    For a = A log2(e) in float32, 2^(delta a) has a relative error of 1.7e-7 + 1.4e-7 |Δ A|.
    """
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
