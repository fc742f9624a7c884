"""The parts of the numba step, each on a block of rows or channels; arrays are flat, and float32 unless stored.

Every part computes in float32 and rounds to the weights' type where a prefill does: `like` is a number of that type.
Places are unsigned numbers: numba compares a signed one with zero, and a loop with that comparison is not vectorised.
"""

import numpy as np

from deltaprune.kernels._numba import compiled, exp, fma, full_width, narrow, silu, softplus, widen
from deltaprune.kernels._numba_channels import recur
from deltaprune.kernels._numba_lines import LOG2E

CHANNELS = 48  # per unit of work
STATES = 16  # the usual number


@compiled()
def rounded(x, like):
    """To the type of `like` and back."""
    return widen(narrow(x, like))


@compiled(reorders=True)
def _squares(x, at, width):
    total = np.float32(0)
    for i in range(width):
        total += x[at + np.uintp(i)] * x[at + np.uintp(i)]
    return total


@compiled()
def norm(x, gain, eps, at, width, normed, like):
    """One row of the RMS norm."""
    full_width()
    at = np.uintp(at)
    scale = np.float32(1) / np.sqrt(_squares(x, at, width) / np.float32(width) + eps)
    for i in range(width):
        normed[at + np.uintp(i)] = rounded(x[at + np.uintp(i)] * scale * gain[i], like)


@compiled()
def convolve(uz, at, first, last, taps, shift, width, past, after, past_at):
    """The convolution and SiLU of some channels, in place; `past` and `after` may be the same.

    `at` and `past_at`: of the sample's first channel.
    """
    like, total = past[0], np.empty(last - first, np.float32)
    for i in range(last - first):
        e = first + i
        old, tap = np.uintp(past_at + e * (width - 1)), np.uintp(e * width)
        new, value = uz[np.uintp(at + e)], widen(shift[np.uintp(e)])
        for k in range(width - 1):
            value = fma(widen(taps[tap + np.uintp(k)]), widen(past[old + np.uintp(k)]), value)
        for k in range(width - 2):
            after[old + np.uintp(k)] = past[old + np.uintp(k + 1)]
        after[old + np.uintp(width - 2)] = narrow(new, like)
        total[i] = fma(widen(taps[tap + np.uintp(width - 1)]), new, value)
    into = np.uintp(at + first)
    for i in range(last - first):
        uz[into + np.uintp(i)] = rounded(silu(total[i]), like)


@compiled()
def decays(A_log, channels, order):
    """What `scan` takes as `a`: A = -exp(A_log), times log2(e) where `by_lines`."""
    full_width()
    a, factor = np.empty(channels * order, np.float32), LOG2E if by_lines(channels, order) else np.float32(1)
    for i in range(channels * order):
        a[i] = -exp(A_log[i]) * factor
    return a


@compiled()
def by_lines(channels, order):
    """Whether the recurrence is `_numba_channels`'s."""
    return order == STATES and channels % STATES == 0


@compiled()
def _recur(h, at, before, old, du, B, read, order):
    """h = h before + delta u B of one channel, where h holds exp(delta A)."""
    at, old, read = np.uintp(at), np.uintp(old), np.uintp(read)
    for n in range(order):
        k = np.uintp(n)
        h[at + k] = fma(h[at + k], before[old + k], du * B[read + k])


@compiled(reorders=True)
def _read(h, at, C, read, order):
    """C h of one channel."""
    at, read, total = np.uintp(at), np.uintp(read), np.float32(0)
    for n in range(order):
        total += C[read + np.uintp(n)] * h[at + np.uintp(n)]
    return total


@compiled()
def scan(a, first, last, channels, order, dt, shift, skip, projected, B, uz, uz_at, before, after, b, gated, like):
    """One step of the scan, D and the gate, for some channels of sample `b`; dt comes without its bias.

    `a` is what `decays` gives; B and, after it, C begin at place `B` of `projected`.
    """
    full_width()
    count, at, sample = last - first, np.uintp(b * channels + first), b * channels * order
    delta, du, y = np.empty(count, np.float32), np.empty(count, np.float32), np.empty(count, np.float32)
    u, gate = np.uintp(uz_at + first), np.uintp(uz_at + channels + first)
    for i in range(count):
        delta[i] = softplus(rounded(dt[at + np.uintp(i)], like) + shift[np.uintp(first + i)])
        du[i] = delta[i] * uz[u + np.uintp(i)]
    if by_lines(channels, order):
        for i in range(0, count, STATES):
            recur(a, delta, du, before, after, projected, y, i, first + i, sample, B, B + order)
    else:
        _one_by_one(a, first, count, order, delta, du, before, after, projected, y, sample, B)
    for i in range(count):
        value = fma(skip[np.uintp(first + i)], uz[u + np.uintp(i)], y[i])
        gated[at + np.uintp(i)] = rounded(value * silu(uz[gate + np.uintp(i)]), like)


@compiled()
def _one_by_one(a, first, count, order, delta, du, before, after, projected, y, sample, B):
    """What `recur` does, for any number of states.

    The state is computed in `h` and copied: a loop that may read what it writes is not vectorised.
    """
    full_width()
    h, old = np.empty(count * order, np.float32), np.uintp(sample + first * order)
    for i in range(count):
        for n in range(order):
            h[i * order + n] = delta[i] * a[np.uintp((first + i) * order + n)]
    for i in range(count * order):
        h[i] = exp(h[i])
    for i in range(count):
        _recur(h, i * order, before, old + np.uintp(i * order), du[i], projected, B, order)
        y[i] = _read(h, i * order, projected, B + order, order)
    for i in range(count * order):
        after[old + np.uintp(i)] = h[i]
