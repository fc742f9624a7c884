"""Rows of an int8 or int4 matrix times a few vectors, written in LLVM's vectors: the products of a quantized model.

The twin of `_numba_products`: numbers are widened to float32 in registers, so that memory gives a half or a quarter of
a bfloat16 matrix's bytes, and sums are added in a fixed order. int4 numbers times vectors of bfloat16 are
`_numba_dots`'s, where the processor has its instruction. `quantized.py` says how the numbers lie in memory. An int8
row's scale is applied to its sum, an int4 row's scales to the numbers of each group.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload

from deltaprune.kernels import _numba_dots
from deltaprune.kernels._numba import compiled, full_width
from deltaprune.kernels._numba_dots import chunks_of, quantized_rows
from deltaprune.kernels._numba_groups import AHEAD, load, number, one_group, prefetch
from deltaprune.kernels._numba_products import multiply
from deltaprune.kernels._numba_products import operand as plain_operand
from deltaprune.kernels._numba_vectors import BYTES, LINE, WIDTH, loop, total, widened
from deltaprune.kernels.quantized import GROUP

HEIGHT = 4  # rows at a time, each a stream through memory
ARGUMENTS: tuple[str, ...] = (
    "weight", "scale", "at", "apart", "width", "x", "x_at", "x_step", "out", "out_at", "out_step"
)  # fmt: skip


def _tile(height: int, vectors: int) -> Any:
    """out[out_at + r apart + b out_step] = Σ_i W[at + r apart, i] x[x_at + b x_step + i], for all r and b."""
    pairs = [(r, b) for r in range(height) for b in range(vectors)]

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        given: dict[str, Any] = dict(zip(ARGUMENTS, args, strict=True))
        bits = 8 if signature.args[0].dtype == types.int8 else 4
        arrays = {
            name: context.make_array(form)(context, builder, given[name]).data
            for name, form in zip(ARGUMENTS, signature.args, strict=True)
            if isinstance(form, types.Array)
        }

        def row(array: str, r: int, held: int) -> Any:
            """The start of a row of which `held` columns make an element."""
            step = builder.udiv(given["width"], number(held))
            at = builder.add(given["at"], builder.mul(given["apart"], number(r)))
            return builder.gep(arrays[array], [builder.mul(at, step)])

        def vector(array: str, b: int) -> Any:
            shift = builder.add(given[f"{array}_at"], builder.mul(given[f"{array}_step"], number(b)))
            return builder.gep(arrays[array], [shift])

        rows = [row("weight", r, 8 // bits) for r in range(height)]
        scales = [row("scale", r, GROUP) for r in range(height)] if bits == 4 else []
        columns = [vector("x", b) for b in range(vectors)]
        add = one_group(bits, height, vectors)

        def line(column: Any, i: Any) -> Any:
            form = signature.args[5].dtype
            return widened(builder, load(builder, column, i, context.get_data_type(form)), form, WIDTH)

        def group(i: Any, sums: Sequence[Any]) -> list[Any]:
            prefetch(builder, rows, builder.add(builder.udiv(i, number(8 // bits)), number(AHEAD)))
            return add(builder, rows, scales, columns, line, i, sums)

        zero = ir.Constant(LINE, [0.0] * WIDTH)
        sums = loop(builder, number(0), given["width"], GROUP, [zero] * len(pairs), group)
        for (r, b), lanes in zip(pairs, sums, strict=True):
            result = total(builder, lanes)
            if bits == 8:
                at = builder.add(given["at"], builder.mul(given["apart"], number(r)))
                scale = builder.gep(arrays["scale"], [at])
                result = builder.fmul(result, builder.load(scale))
            builder.store(result, builder.gep(vector("out", b), [builder.mul(given["apart"], number(r))]))
        return context.get_dummy_value()

    def tile(typingctx, weight, scale, at, apart, width, x, x_at, x_step, out, out_at, out_step):
        n = types.intp
        write = _numba_dots.tile(height, vectors) if isinstance(x, types.BaseTuple) else emit
        return types.void(weight, scale, n, n, n, x, n, n, out, n, n), write

    return intrinsic(tile)


_1x1, _1x2, _1x3, _1x4 = (_tile(1, vectors) for vectors in (1, 2, 3, 4))
_hx1, _hx2, _hx3, _hx4 = (_tile(HEIGHT, vectors) for vectors in (1, 2, 3, 4))


@compiled()
def _row(weight, scale, at, width, x, x_step, batch, out, out_at, out_step):
    """One row times all vectors."""
    full_width()
    for b in range(0, batch, 4):
        left, x_at, to = batch - b, b * x_step, out_at + b * out_step
        if left >= 4:
            _1x4(weight, scale, at, 0, width, x, x_at, x_step, out, to, out_step)
        elif left == 3:
            _1x3(weight, scale, at, 0, width, x, x_at, x_step, out, to, out_step)
        elif left == 2:
            _1x2(weight, scale, at, 0, width, x, x_at, x_step, out, to, out_step)
        else:
            _1x1(weight, scale, at, 0, width, x, x_at, x_step, out, to, out_step)


@compiled()
def _rows(weight, scale, at, apart, width, x, x_step, batch, out, out_at, out_step):
    """`HEIGHT` rows times all vectors; the rows come from the cache for the fifth vector and later ones."""
    full_width()
    for b in range(0, batch, 4):
        left, x_at, to = batch - b, b * x_step, out_at + b * out_step
        if left >= 4:
            _hx4(weight, scale, at, apart, width, x, x_at, x_step, out, to, out_step)
        elif left == 3:
            _hx3(weight, scale, at, apart, width, x, x_at, x_step, out, to, out_step)
        elif left == 2:
            _hx2(weight, scale, at, apart, width, x, x_at, x_step, out, to, out_step)
        else:
            _hx1(weight, scale, at, apart, width, x, x_at, x_step, out, to, out_step)


@compiled()
def _multiply(weight, scale, width, first, last, x, x_step, batch, out, out_step):
    """As `product`, of a quantized matrix whose numbers and scales are flat."""
    full_width()
    tiles = (last - first) // HEIGHT
    for r in range(first, first + tiles):
        _rows(weight, scale, r, tiles, width, x, x_step, batch, out, r, out_step)
    for r in range(first + tiles * HEIGHT, last):
        _row(weight, scale, r, width, x, x_step, batch, out, r, out_step)


def _kinds(arrays: Any) -> list[types.Type]:
    return [array.dtype for array in arrays]


def operand(x, weight, width, batch):
    """float32 vectors, flat, in the form in which `product` reads them fastest; for compiled code.

    A copy where that is bfloat16, to which they have been rounded already; int8 in groups for int4 numbers and rows
    of bfloat16.
    """
    raise NotImplementedError("compiled code calls it")


@overload(operand)
def _operand(x, weight, width, batch):
    if not isinstance(weight, types.BaseTuple):
        return lambda x, weight, width, batch: plain_operand(x, weight)
    numbers, _, like = _kinds(weight)
    if BYTES and numbers == types.uint8 and like == types.int16:
        return lambda x, weight, width, batch: quantized_rows(x, width, batch)
    return lambda x, weight, width, batch: x


def product(weight, width, first, last, x, x_step, batch, out, out_step):
    """out[b out_step + r] = Σ_i W[r, i] x[b x_step + i], first <= r < last, b < batch, i < width; for compiled code.

    `weight` is flat, float32 or the bits of bfloat16; or a quantized matrix, the tuple that `operands` gives. `x` is
    what `operand` gives; vectors that it quantized lie close, whatever `x_step`.
    """
    raise NotImplementedError("compiled code calls it")


@overload(product)
def _product(weight, width, first, last, x, x_step, batch, out, out_step):
    if isinstance(x, types.BaseTuple):
        return lambda weight, width, first, last, x, x_step, batch, out, out_step: _multiply(
            weight[0], weight[1], width, first, last, x, chunks_of(width), batch, out, out_step
        )
    if isinstance(weight, types.BaseTuple):
        return lambda weight, width, first, last, x, x_step, batch, out, out_step: _multiply(
            weight[0], weight[1], width, first, last, x, x_step, batch, out, out_step
        )
    return lambda weight, width, first, last, x, x_step, batch, out, out_step: multiply(
        weight, width, first, last, x, x_step, batch, width, out, out_step
    )
