"""Numba kernels of ``training.delta``: the gated delta rule over trees of segments, token by token.

Arguments (cu, parent, order, group_ptr, job_ptr) are the schedule of ``training.scan.plan_of``. q and k (T, K, SIDE),
v (T, H, SIDE), decay and beta (T, H), float32 and contiguous; value head h reads key head h // (H // K). A head's state
is SIDE x SIDE, a row of it two vectors. Sums over rows run in two halves, so that one need not wait for the other.
Numba's cache does not see edits of ``_fastmath``: delete ``__pycache__`` after one.
"""

# numba compiles these functions with other signatures than the ones written: intrinsics take a typing context first.
# pyright: reportCallIssue=false

from typing import Any

from numba import njit, prange

from training._fastmath import LANES, empty_aligned, fma, vfull, vload, vspread, vstore, vsum

SIDE = 2 * LANES  # of a head's keys and of its values


@njit(forceinline=True)
def _read(rows, t, kh, matrix, n) -> tuple[Any, Any]:
    """rows[t, kh] times matrix[n]: both vectors of the product."""
    low, high, low2, high2 = vfull(0.0), vfull(0.0), vfull(0.0), vfull(0.0)
    for i in range(0, SIDE, 2):
        one, two = vspread(rows, (t, kh, i)), vspread(rows, (t, kh, i + 1))
        low, high = fma(one, vload(matrix, (n, i, 0)), low), fma(one, vload(matrix, (n, i, LANES)), high)
        low2, high2 = fma(two, vload(matrix, (n, i + 1, 0)), low2), fma(two, vload(matrix, (n, i + 1, LANES)), high2)
    return low + low2, high + high2


@njit(forceinline=True)
def _write(k, seen, decay, beta, t, h, kh, states, n, m):
    """states[m] = the state after token t, states[n] the one before; n may be m."""
    keep, low = vfull(decay[t, h]), vfull(beta[t, h]) * vload(seen, (t, h, 0))
    high = vfull(beta[t, h]) * vload(seen, (t, h, LANES))
    for i in range(SIDE):
        weight = vspread(k, (t, kh, i))
        vstore(states, (m, i, 0), fma(weight, low, keep * vload(states, (n, i, 0))))
        vstore(states, (m, i, LANES), fma(weight, high, keep * vload(states, (n, i, LANES))))


@njit(forceinline=True)
def _copy(source, n, target, m):
    """target[m] = source[n]."""
    for i in range(SIDE):
        vstore(target, (m, i, 0), vload(source, (n, i, 0)))
        vstore(target, (m, i, LANES), vload(source, (n, i, LANES)))


@njit(forceinline=True)
def _clear(target, m):
    """target[m] = 0."""
    for i in range(SIDE):
        vstore(target, (m, i, 0), vfull(0.0))
        vstore(target, (m, i, LANES), vfull(0.0))


@njit(parallel=True, cache=True)
def delta_forward(q, k, v, decay, beta, cu, parent, order, group_ptr, job_ptr, seen, y):
    """Write y and seen (T, H, SIDE); seen is what each token adds to the state, before beta."""
    repeats = v.shape[1] // k.shape[1]
    for job in prange(job_ptr.size - 1):
        state = empty_aligned((2, SIDE, SIDE))  # the running one, and the root's last
        for g in range(job_ptr[job], job_ptr[job + 1]):
            for h in range(v.shape[1]):
                kh = h // repeats
                for n in range(group_ptr[g], group_ptr[g + 1]):
                    segment = order[n]
                    if parent[segment] < 0:
                        _clear(state, 0)
                    else:
                        _copy(state, 1, state, 0)
                    for t in range(cu[segment], cu[segment + 1]):
                        low, high = _read(k, t, kh, state, 0)
                        vstore(seen, (t, h, 0), vload(v, (t, h, 0)) - vfull(decay[t, h]) * low)
                        vstore(seen, (t, h, LANES), vload(v, (t, h, LANES)) - vfull(decay[t, h]) * high)
                        _write(k, seen, decay, beta, t, h, kh, state, 0, 0)
                        low, high = _read(q, t, kh, state, 0)
                        vstore(y, (t, h, 0), low)
                        vstore(y, (t, h, LANES), high)
                    if parent[segment] < 0:
                        _copy(state, 0, state, 1)


@njit(forceinline=True)
def _backward_row(q, k, decay, beta, seen, dy, t, h, kh, states, n, grad, dq, dk, dv, ddecay, dbeta):
    """Token t in reverse, between states[n] and states[n + 1]: grad[0] in place from after it to before it."""
    dy_low, dy_high = vload(dy, (t, h, 0)), vload(dy, (t, h, LANES))
    low, high = vfull(0.0), vfull(0.0)
    for i in range(SIDE):
        weight, ask = vspread(k, (t, kh, i)), vspread(q, (t, kh, i))
        d_low, d_high = fma(ask, dy_low, vload(grad, (0, i, 0))), fma(ask, dy_high, vload(grad, (0, i, LANES)))
        vstore(grad, (0, i, 0), d_low)
        vstore(grad, (0, i, LANES), d_high)
        low, high = fma(weight, d_low, low), fma(weight, d_high, high)
        dq[t, kh, i] += vsum(fma(vload(states, (n + 1, i, 0)), dy_low, vload(states, (n + 1, i, LANES)) * dy_high))
    seen_low, seen_high = vload(seen, (t, h, 0)), vload(seen, (t, h, LANES))
    dbeta[t, h] = vsum(fma(low, seen_low, high * seen_high))
    step, keep, drop = vfull(beta[t, h]), vfull(decay[t, h]), vfull(-decay[t, h])
    low, high = step * low, step * high
    vstore(dv, (t, h, 0), low)
    vstore(dv, (t, h, LANES), high)
    added_low, added_high, moved = step * seen_low, step * seen_high, vfull(0.0)
    lost_low, lost_high = drop * low, drop * high
    for i in range(SIDE):
        weight = vfull(0.0) - vspread(k, (t, kh, i))
        d_low, d_high = vload(grad, (0, i, 0)), vload(grad, (0, i, LANES))
        old_low, old_high = vload(states, (n, i, 0)), vload(states, (n, i, LANES))
        found = fma(old_low, lost_low, old_high * lost_high)
        dk[t, kh, i] += vsum(fma(d_low, added_low, fma(d_high, added_high, found)))
        d_low, d_high = fma(weight, low, d_low), fma(weight, high, d_high)
        moved = fma(old_low, d_low, fma(old_high, d_high, moved))
        vstore(grad, (0, i, 0), keep * d_low)
        vstore(grad, (0, i, LANES), keep * d_high)
    ddecay[t, h] = vsum(moved)


@njit(parallel=True, cache=True)
def delta_backward(
    q, k, decay, beta, seen, dy, cu, parent, order, group_ptr, job_ptr, longest, dq, dk, dv, ddecay, dbeta
):
    """Write dv, ddecay, dbeta and add to dq, dk. A root is replayed first and gone through in reverse last."""
    repeats = dv.shape[1] // k.shape[1]
    for job in prange(job_ptr.size - 1):
        roots, states = empty_aligned((longest + 1, SIDE, SIDE)), empty_aligned((longest + 1, SIDE, SIDE))
        grad = empty_aligned((2, SIDE, SIDE))  # the running one, and that of the root's last state
        for g in range(job_ptr[job], job_ptr[job + 1]):
            root = order[group_ptr[g]]
            first, last = cu[root], cu[root + 1]
            for h in range(dv.shape[1]):
                kh = h // repeats
                _clear(roots, 0)
                _clear(grad, 1)
                for t in range(first, last):
                    _write(k, seen, decay, beta, t, h, kh, roots, t - first, t - first + 1)
                for n in range(group_ptr[g] + 1, group_ptr[g + 1]):
                    start, stop = cu[order[n]], cu[order[n] + 1]
                    _copy(roots, last - first, states, 0)
                    _clear(grad, 0)
                    for t in range(start, stop):
                        _write(k, seen, decay, beta, t, h, kh, states, t - start, t - start + 1)
                    for t in range(stop - 1, start - 1, -1):
                        _backward_row(
                            q, k, decay, beta, seen, dy, t, h, kh, states, t - start, grad, dq, dk, dv, ddecay, dbeta
                        )
                    for i in range(SIDE):
                        for j in range(0, SIDE, LANES):
                            vstore(grad, (1, i, j), vload(grad, (1, i, j)) + vload(grad, (0, i, j)))
                _copy(grad, 1, grad, 0)
                for t in range(last - 1, first - 1, -1):
                    _backward_row(
                        q, k, decay, beta, seen, dy, t, h, kh, roots, t - first, grad, dq, dk, dv, ddecay, dbeta
                    )
