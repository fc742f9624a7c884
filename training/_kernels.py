"""Numba kernels of ``training.scan``: scan and convolution over trees of segments, 16 channels to a vector.

Arguments (cu, parent, order, group_ptr, job_ptr) are the schedule of ``training.scan.plan_of``. Arrays are float32 with
contiguous channels, E a multiple of 16; A is (N, E), negative. Numba's cache does not see edits of ``_fastmath``:
delete ``__pycache__`` after one.
"""

# numba compiles these functions with other signatures than the ones written: intrinsics take a typing context first.
# pyright: reportCallIssue=false

from numba import njit, prange

from training._fastmath import (
    LANES,
    empty_aligned,
    exp2,
    fma,
    prefetch,
    sigmoid,
    softplus,
    vfull,
    vload,
    vspread,
    vstore,
    vsum,
)

JOBS = 16
AHEAD = 6  # rows from a load to its prefetch: the stride between rows is too long for the hardware's own
_LOG2E = 1.4426950408889634


@njit(parallel=True, cache=True)
def scan_forward(u, dt, A, B, C, D, z, dt_bias, cu, parent, order, group_ptr, job_ptr, y):
    """Write y (T, E); A (N, E) is negative. One pass over a group per block of 16 channels."""
    states = A.shape[0]
    for job in prange(job_ptr.size - 1):
        rates, h = empty_aligned((states, LANES)), empty_aligned((states, LANES))
        final = empty_aligned((states, LANES))
        for g in range(job_ptr[job], job_ptr[job + 1]):
            for e in range(0, u.shape[1], LANES):
                for n in range(states):
                    vstore(rates, (n, 0), vload(A, (n, e)) * vfull(_LOG2E))
                for i in range(group_ptr[g], group_ptr[g + 1]):
                    seg = order[i]
                    for n in range(states):
                        vstore(h, (n, 0), vfull(0.0) if parent[seg] < 0 else vload(final, (n, 0)))
                    _scan_segment(u, dt, B, C, D, z, dt_bias, e, cu[seg], cu[seg + 1], rates, h, y)
                    if parent[seg] < 0:
                        final[:] = h


@njit(forceinline=True)
def _scan_segment(u, dt, B, C, D, z, dt_bias, e, start, stop, rates, h, y):
    """Run rows start:stop of channels e:e + 16 from state h (N, 16), in place; rates = A log2(e)."""
    for t in range(start, stop):
        prefetch((u, dt, z, y), (t + AHEAD, e))
        x, gate = vload(u, (t, e)), vload(z, (t, e))
        delta = softplus(vload(dt, (t, e)) + vload(dt_bias, (e,)))
        dx = delta * x
        out = vload(D, (e,)) * x
        for n in range(rates.shape[0]):
            state = fma(exp2(delta * vload(rates, (n, 0))), vload(h, (n, 0)), dx * vspread(B, (t, n)))
            vstore(h, (n, 0), state)
            out = fma(state, vspread(C, (t, n)), out)
        vstore(y, (t, e), out * gate * sigmoid(gate))


@njit(parallel=True, cache=True)
def scan_backward(
    u, dt, A, B, C, D, z, dt_bias, dy, cu, parent, order, group_ptr, job_ptr, du, ddt, dz, dB, dC, dA, dD, dbias
):
    """Write du, ddt, dz (T, E), dB, dC (T, N); add to dA (JOBS, N, E), dD, dbias (JOBS, 1, E), a slice per job.

    Per group and block of 16 channels: replay the root, then for each child replay it from the root's final state and
    go through it in reverse, adding to the gradient of that state; last, go through the root in reverse. dB and dC are
    kept per lane until all blocks are done.
    """
    states = A.shape[0]
    inputs = (u, dt, B, C, D, z, dt_bias, dy)
    for job in prange(job_ptr.size - 1):
        longest, widest = _extent(cu, order, group_ptr, job_ptr[job], job_ptr[job + 1])
        rates = empty_aligned((states, LANES))
        root = _scratch(longest, states)
        child = _scratch(longest, states)
        grad_h, grad_final = empty_aligned((states, LANES)), empty_aligned((states, LANES))
        lanes = empty_aligned((widest, 2, states, LANES))
        outputs = (du, ddt, dz, dA[job], dD[job], dbias[job], lanes)
        for g in range(job_ptr[job], job_ptr[job + 1]):
            first, last = group_ptr[g], group_ptr[g + 1]
            trunk = order[first]
            length = cu[trunk + 1] - cu[trunk]
            lanes[:] = 0
            for e in range(0, u.shape[1], LANES):
                for n in range(states):
                    vstore(rates, (n, 0), vload(A, (n, e)) * vfull(_LOG2E))
                root[0][0] = 0
                grad_final[:] = 0
                _replay(inputs, rates, e, cu[trunk], length, root, dz)
                offset = length
                for i in range(first + 1, last):
                    start, count = cu[order[i]], cu[order[i] + 1] - cu[order[i]]
                    child[0][0] = root[0][length]
                    grad_h[:] = 0
                    _replay(inputs, rates, e, start, count, child, dz)
                    _reverse(inputs, A, e, start, count, child, grad_h, outputs, offset)
                    grad_final += grad_h
                    offset += count
                _reverse(inputs, A, e, cu[trunk], length, root, grad_final, outputs, 0)
            offset = 0
            for i in range(first, last):
                _reduce_lanes(lanes, offset, cu[order[i]], cu[order[i] + 1], dB, dC)
                offset += cu[order[i] + 1] - cu[order[i]]


@njit
def _scratch(rows, states):
    """Buffers of a replay: h (rows + 1, N, 16), decay (rows, N, 16), and delta, d loss / d ungated y (rows, 2, 16)."""
    h = empty_aligned((rows + 1, states, LANES))
    decay = empty_aligned((rows, states, LANES))
    return h, decay, empty_aligned((rows, 2, LANES))


@njit
def _extent(cu, order, group_ptr, first, last):
    """Rows of the longest segment and of the largest group among groups first:last."""
    longest, widest = 0, 0
    for g in range(first, last):
        total = 0
        for i in range(group_ptr[g], group_ptr[g + 1]):
            rows = cu[order[i] + 1] - cu[order[i]]
            longest, total = max(longest, rows), total + rows
        widest = max(widest, total)
    return longest, widest


@njit(forceinline=True)
def _replay(inputs, rates, e, start, rows, scratch, dz):
    """Forward pass of a segment from h[0], keeping h, decay = exp(delta A), delta, and dy silu(z); writes dz."""
    u, dt, B, C, D, z, dt_bias, dy = inputs
    h, decay, kept = scratch
    for i in range(rows):
        t = start + i
        prefetch((u, dt, z, dy, dz), (t + AHEAD, e))
        x, gate, upper = vload(u, (t, e)), vload(z, (t, e)), vload(dy, (t, e))
        delta = softplus(vload(dt, (t, e)) + vload(dt_bias, (e,)))
        dx = delta * x
        out = vload(D, (e,)) * x
        for n in range(rates.shape[0]):
            a = exp2(delta * vload(rates, (n, 0)))
            state = fma(a, vload(h, (i, n, 0)), dx * vspread(B, (t, n)))
            vstore(decay, (i, n, 0), a)
            vstore(h, (i + 1, n, 0), state)
            out = fma(state, vspread(C, (t, n)), out)
        s = sigmoid(gate)
        vstore(kept, (i, 0, 0), delta)
        vstore(kept, (i, 1, 0), upper * gate * s)
        vstore(dz, (t, e), upper * out * s * fma(gate, vfull(1.0) - s, vfull(1.0)))


@njit(forceinline=True)
def _reverse(inputs, A, e, start, rows, scratch, grad_h, outputs, offset):
    """Reverse pass of a replayed segment; grad_h (N, 16) is d loss / d h at the end, on return at the start."""
    u, dt, B, C, D, _, dt_bias, _ = inputs
    du, ddt, _, dA, dD, dbias, lanes = outputs
    h, decay, kept = scratch
    sum_D, sum_bias = vload(dD, (0, e)), vload(dbias, (0, e))
    for i in range(rows - 1, -1, -1):
        t, row = start + i, offset + i
        prefetch((u, dt, du, ddt), (t - AHEAD, e))
        x, delta, upper = vload(u, (t, e)), vload(kept, (i, 0, 0)), vload(kept, (i, 1, 0))
        dx, into_dx, into_delta = delta * x, vfull(0.0), vfull(0.0)
        for n in range(A.shape[0]):
            grad = fma(upper, vspread(C, (t, n)), vload(grad_h, (n, 0)))
            vstore(lanes, (row, 0, n, 0), fma(grad, dx, vload(lanes, (row, 0, n, 0))))
            vstore(lanes, (row, 1, n, 0), fma(upper, vload(h, (i + 1, n, 0)), vload(lanes, (row, 1, n, 0))))
            into_dx = fma(grad, vspread(B, (t, n)), into_dx)
            grad = grad * vload(decay, (i, n, 0))
            vstore(grad_h, (n, 0), grad)
            rate = grad * vload(h, (i, n, 0))
            into_delta = fma(rate, vload(A, (n, e)), into_delta)
            vstore(dA, (n, e), fma(rate, delta, vload(dA, (n, e))))
        slope = sigmoid(vload(dt, (t, e)) + vload(dt_bias, (e,)))
        into_dt = fma(into_dx, x, into_delta) * slope
        vstore(du, (t, e), fma(into_dx, delta, upper * vload(D, (e,))))
        vstore(ddt, (t, e), into_dt)
        sum_D, sum_bias = fma(upper, x, sum_D), sum_bias + into_dt
    vstore(dD, (0, e), sum_D)
    vstore(dbias, (0, e), sum_bias)


@njit
def _reduce_lanes(lanes, offset, start, stop, dB, dC):
    """Sum the lanes of rows offset: onward into rows start:stop of dB, dC (T, N)."""
    for t in range(start, stop):
        for n in range(dB.shape[1]):
            dB[t, n] = vsum(vload(lanes, (offset + t - start, 0, n, 0)))
            dC[t, n] = vsum(vload(lanes, (offset + t - start, 1, n, 0)))


@njit(inline="always")
def _source(t, k, start, parent_start, parent_stop):
    """Row that stands k before row t of a segment, or -1; a root has parent_start = parent_stop."""
    if t - k >= start:
        return t - k
    row = parent_stop + (t - k - start)
    return row if row >= parent_start else -1


@njit(parallel=True, cache=True)
def conv_forward(x, taps, bias, cu, parent, order, group_ptr, job_ptr, y):
    """Write y (T, E); taps (W, E) is the transposed weight."""
    width = taps.shape[0]
    for job in prange(job_ptr.size - 1):
        for i in range(group_ptr[job_ptr[job]], group_ptr[job_ptr[job + 1]]):
            seg = order[i]
            back = (cu[parent[seg]], cu[parent[seg] + 1]) if parent[seg] >= 0 else (cu[seg], cu[seg])
            for t in range(cu[seg], cu[seg + 1]):
                for e in range(0, x.shape[1], LANES):
                    pre = vload(bias, (e,))
                    for k in range(width):
                        row = _source(t, k, cu[seg], back[0], back[1])
                        if row >= 0:
                            pre = fma(vload(taps, (width - 1 - k, e)), vload(x, (row, e)), pre)
                    vstore(y, (t, e), pre * sigmoid(pre))


@njit(parallel=True, cache=True)
def conv_backward(x, taps, bias, dy, cu, parent, order, group_ptr, job_ptr, dx, dtaps):
    """Add to dx (T, E) and dtaps (JOBS, W + 1, E), whose last row is for the bias."""
    width = taps.shape[0]
    for job in prange(job_ptr.size - 1):
        for i in range(group_ptr[job_ptr[job]], group_ptr[job_ptr[job + 1]]):
            seg = order[i]
            back = (cu[parent[seg]], cu[parent[seg] + 1]) if parent[seg] >= 0 else (cu[seg], cu[seg])
            for t in range(cu[seg], cu[seg + 1]):
                for e in range(0, x.shape[1], LANES):
                    pre = vload(bias, (e,))
                    for k in range(width):
                        row = _source(t, k, cu[seg], back[0], back[1])
                        if row >= 0:
                            pre = fma(vload(taps, (width - 1 - k, e)), vload(x, (row, e)), pre)
                    s = sigmoid(pre)
                    grad = vload(dy, (t, e)) * s * fma(pre, vfull(1.0) - s, vfull(1.0))
                    vstore(dtaps, (job, width, e), vload(dtaps, (job, width, e)) + grad)
                    for k in range(width):
                        row = _source(t, k, cu[seg], back[0], back[1])
                        if row >= 0:
                            tap = width - 1 - k
                            vstore(dtaps, (job, tap, e), fma(grad, vload(x, (row, e)), vload(dtaps, (job, tap, e))))
                            vstore(dx, (row, e), fma(grad, vload(taps, (tap, e)), vload(dx, (row, e))))
