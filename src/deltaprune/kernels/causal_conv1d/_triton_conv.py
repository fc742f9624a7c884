"""The convolution's Triton kernel: a program has a block of channels, and a tile of rows or one sequence's two ends.

There is no recurrence: a row reads its W - 1 predecessors. A tile reads its rows once and stores those whose
predecessors are all in their own sequence. The first W - 1 rows of a sequence, which need the initial state, and the
state that it leaves are the work of a program of their own. Where a tile is nowhere near a sequence's first row or the
last of all, nothing in it is conditional.
"""

import triton.language as tl

from deltaprune.kernels._triton_math import kernel, silu


@kernel
def _either(a, b):
    return a | b


@kernel
def _begun(cu, sequences, first, W: tl.constexpr, ROWS: tl.constexpr, BOUNDS: tl.constexpr):
    """Which of ROWS rows from `first` on are among the first W - 1 of a sequence: bit k for the k-th."""
    bits = tl.zeros([BOUNDS], tl.int32)
    for s in range(0, sequences, BOUNDS):
        i = s + tl.arange(0, BOUNDS)
        row = tl.load(cu + i, mask=i < sequences, other=-1073741824) - first
        from_bit = tl.minimum(tl.maximum(row, 0), ROWS)
        to_bit = tl.minimum(tl.maximum(row + (W - 1), 0), ROWS)
        bits |= (1 << to_bit) - (1 << from_bit)
    return tl.reduce(bits, 0, _either)


@kernel
def _rows(x, first, begin, end, step: tl.constexpr, e, E: tl.constexpr, COUNT: tl.constexpr, WHOLE: tl.constexpr):
    """COUNT rows of x from `first` on, as they are stored; zeros where not in [begin, end), unless WHOLE."""
    start, rows = x + tl.cast(first, tl.int64) * step + e, ()
    for k in tl.static_range(COUNT):  # pyright: ignore[reportGeneralTypeIssues]
        row = first + k
        limit = E if WHOLE else tl.where(row < begin, 0, tl.where(row < end, E, 0))
        rows += (tl.load(start + k * step, mask=e < limit, other=0.0),)
    return rows


@kernel
def _taps(weight, bias, e, E: tl.constexpr, W: tl.constexpr):
    """A block's bias and W taps, float32. Read once: what follows a store would be read again."""
    taps = (tl.load(bias + e, mask=e < E, other=0.0).to(tl.float32),)
    for k in tl.static_range(W):  # pyright: ignore[reportGeneralTypeIssues]
        taps += (tl.load(weight + e * W + k, mask=e < E, other=0.0).to(tl.float32),)
    return taps


@kernel
def _convolved(rows, k: tl.constexpr, taps, W: tl.constexpr):
    """The output whose oldest input is `rows[k]`."""
    total = taps[0]
    for i in tl.static_range(W):  # pyright: ignore[reportGeneralTypeIssues]
        total = tl.fma(taps[1 + i], rows[k + i].to(tl.float32), total)
    return silu(total)


@kernel
def _tile(
    x, taps, out, first, T, begun, x_step: tl.constexpr, e, E: tl.constexpr, W: tl.constexpr,
    ROWS: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """ROWS rows from row `first` on, but for those that a sequence begins with; WHOLE: there are none."""
    rows = _rows(x, first - (W - 1), 0, T, x_step, e, E, ROWS + W - 1, WHOLE)
    to = out + first.to(tl.int64) * E + e
    for k in tl.static_range(ROWS):  # pyright: ignore[reportGeneralTypeIssues]
        limit = E if WHOLE else tl.where((begun >> k) & 1 == 1, 0, tl.where(first + k < T, E, 0))
        tl.store(to + k * E, _convolved(rows, k, taps, W).to(out.dtype.element_ty), mask=e < limit)


@kernel
def _ends(x, taps, cu, past, out, state, s, x_step: tl.constexpr, e, E: tl.constexpr, W: tl.constexpr):
    """The first W - 1 rows of a sequence, and its last W - 1 inputs; there may be fewer rows, or none."""
    start, stop = tl.load(cu + s), tl.load(cu + s + 1)
    own, old, kept = (s.to(tl.int64) * E + e) * (W - 1), (), ()
    newest = _rows(x, stop - (W - 1), start, stop, x_step, e, E, W - 1, False)
    for k in tl.static_range(W - 1):  # pyright: ignore[reportGeneralTypeIssues]
        if past is None:
            old += (tl.zeros(e.shape, x.dtype.element_ty),)
            kept += (newest[k],)
        else:
            old += (tl.load(past + own + k, mask=e < E, other=0.0),)
            at = stop - start + k  # where the k-th of the last inputs lies in the initial state, in a short sequence
            short = tl.load(past + own + at, mask=e < tl.where(at < W - 1, E, 0), other=0.0)
            kept += (tl.where(at < W - 1, short, newest[k]),)
    seen = old + _rows(x, start, start, stop, x_step, e, E, W - 1, False)
    to = out + start.to(tl.int64) * E + e
    for k in tl.static_range(W - 1):  # pyright: ignore[reportGeneralTypeIssues]
        limit = tl.where(start + k < stop, E, 0)
        tl.store(to + k * E, _convolved(seen, k, taps, W).to(out.dtype.element_ty), mask=e < limit)
        tl.store(state + own + k, kept[k], mask=e < E)


@kernel(do_not_specialize=["T", "sequences"])
def conv_rows(
    x, weight, bias, cu, past, out, state, T, sequences, E: tl.constexpr, x_step: tl.constexpr, W: tl.constexpr,
    ROWS: tl.constexpr, LANES: tl.constexpr, BOUNDS: tl.constexpr,
):  # fmt: skip
    """Of each block of channels: first a program per sequence for its ends, then one per ROWS rows."""
    blocks: tl.constexpr = (E + LANES - 1) // LANES
    part, e = tl.program_id(0) // blocks, (tl.program_id(0) % blocks) * LANES + tl.arange(0, LANES)
    first, taps = (part - sequences) * ROWS, _taps(weight, bias, e, E, W)
    if part < sequences:
        _ends(x, taps, cu, past, out, state, part, x_step, e, E, W)
    else:
        begun = _begun(cu, sequences, first, W, ROWS, BOUNDS)
        if (begun == 0) & (first + ROWS <= T):
            _tile(x, taps, out, first, T, begun, x_step, e, E, W, ROWS, True)
        else:
            _tile(x, taps, out, first, T, begun, x_step, e, E, W, ROWS, False)
