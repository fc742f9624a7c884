"""Numba kernels of ``training.delta``: the gated delta rule over trees of segments, token by token.

Arguments (cu, parent, order, group_ptr, job_ptr) are the schedule of ``training.scan.plan_of``. q and k (T, K, SIDE),
v (T, H, SIDE), decay and beta (T, H), float32 and contiguous; value head h reads key head h // (H // K). A head's state
is SIDE x SIDE, a constant here so that LLVM unrolls and vectorises the loops over it.
"""

import numpy as np
from numba import njit, prange

SIDE = 32  # of a head's keys and of its values


@njit(fastmath=True, inline="always")
def _forward_row(k, q, v, decay, beta, state, seen, out):
    """One token: state (SIDE, SIDE) in place; seen = v - k^T decay state, out = q^T state."""
    for j in range(SIDE):
        seen[j] = 0.0
        out[j] = 0.0
    for i in range(SIDE):
        weight = k[i] * decay
        for j in range(SIDE):
            seen[j] += weight * state[i, j]
    for j in range(SIDE):
        seen[j] = v[j] - seen[j]
    for i in range(SIDE):
        weight, ask = k[i] * beta, q[i]
        for j in range(SIDE):
            new = decay * state[i, j] + weight * seen[j]
            state[i, j] = new
            out[j] += ask * new


@njit(parallel=True, cache=True, fastmath=True)
def delta_forward(q, k, v, decay, beta, cu, parent, order, group_ptr, job_ptr, seen, y):
    """Write y and seen (T, H, SIDE); seen is what each token adds to the state, before beta."""
    repeats = v.shape[1] // k.shape[1]
    for job in prange(job_ptr.size - 1):
        state, final = np.empty((SIDE, SIDE), np.float32), np.empty((SIDE, SIDE), np.float32)
        for g in range(job_ptr[job], job_ptr[job + 1]):
            for h in range(v.shape[1]):
                for n in range(group_ptr[g], group_ptr[g + 1]):
                    segment = order[n]
                    if parent[segment] < 0:
                        state[:] = 0.0
                    else:
                        state[:] = final
                    for t in range(cu[segment], cu[segment + 1]):
                        kt, qt = k[t, h // repeats], q[t, h // repeats]
                        _forward_row(kt, qt, v[t, h], decay[t, h], beta[t, h], state, seen[t, h], y[t, h])
                    if parent[segment] < 0:
                        final[:] = state


@njit(fastmath=True, inline="always")
def _replay(k, seen, decay, beta, states, h, kh, start, stop):
    """states[n + 1] is the state after n + 1 tokens of the segment; states[0] is given."""
    for t in range(start, stop):
        before, after = states[t - start], states[t - start + 1]
        for i in range(SIDE):
            weight = k[t, kh, i] * beta[t, h]
            for j in range(SIDE):
                after[i, j] = decay[t, h] * before[i, j] + weight * seen[t, h, j]


@njit(fastmath=True, inline="always")
def _backward_row(k, q, decay, beta, seen, dy, before, after, dstate, dk, dq, dv, write):
    """One token in reverse: dstate in place from after it to before it; adds to dk and dq, writes dv.

    Returns the gradients of decay and beta. write (SIDE,) is a buffer.
    """
    for j in range(SIDE):
        write[j] = 0.0
    for i in range(SIDE):
        weight, ask, found = k[i], q[i], np.float32(0.0)
        for j in range(SIDE):
            d = dstate[i, j] + ask * dy[j]
            dstate[i, j] = d
            write[j] += weight * d
            found += after[i, j] * dy[j]
        dq[i] += found
    dbeta, ddecay = np.float32(0.0), np.float32(0.0)
    for j in range(SIDE):
        dbeta += write[j] * seen[j]
        dv[j] = beta * write[j]
    for i in range(SIDE):
        weight, found = k[i], np.float32(0.0)
        for j in range(SIDE):
            d, old = dstate[i, j], before[i, j]
            found += beta * d * seen[j] - decay * old * dv[j]
            d -= weight * dv[j]
            ddecay += old * d
            dstate[i, j] = decay * d
        dk[i] += found
    return ddecay, dbeta


@njit(parallel=True, cache=True, fastmath=True)
def delta_backward(
    q, k, decay, beta, seen, dy, cu, parent, order, group_ptr, job_ptr, longest, dq, dk, dv, ddecay, dbeta
):
    """Write dv, ddecay, dbeta and add to dq, dk. A root is replayed first and gone through in reverse last."""
    repeats = dv.shape[1] // k.shape[1]
    for job in prange(job_ptr.size - 1):
        roots = np.empty((longest + 1, SIDE, SIDE), np.float32)
        states = np.empty((longest + 1, SIDE, SIDE), np.float32)
        dfinal, dstate = np.empty((SIDE, SIDE), np.float32), np.empty((SIDE, SIDE), np.float32)
        write = np.empty(SIDE, np.float32)
        for g in range(job_ptr[job], job_ptr[job + 1]):
            for h in range(dv.shape[1]):
                kh, root = h // repeats, order[group_ptr[g]]
                roots[0] = 0.0
                _replay(k, seen, decay, beta, roots, h, kh, cu[root], cu[root + 1])
                dfinal[:] = 0.0
                for n in range(group_ptr[g + 1] - 1, group_ptr[g] - 1, -1):
                    segment = order[n]
                    start, stop = cu[segment], cu[segment + 1]
                    if segment == root:
                        held = roots
                        dstate[:] = dfinal
                    else:
                        held = states
                        held[0] = roots[cu[root + 1] - cu[root]]
                        _replay(k, seen, decay, beta, held, h, kh, start, stop)
                        dstate[:] = 0.0
                    for t in range(stop - 1, start - 1, -1):
                        before, after = held[t - start], held[t - start + 1]
                        ddecay[t, h], dbeta[t, h] = _backward_row(
                            k[t, kh], q[t, kh], decay[t, h], beta[t, h], seen[t, h], dy[t, h], before, after, dstate,
                            dk[t, kh], dq[t, kh], dv[t, h], write,
                        )  # fmt: skip
                    if segment != root:
                        dfinal += dstate
