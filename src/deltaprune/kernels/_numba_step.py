"""The parts of the numba step, each on a block of rows or channels; arrays are flat, and float32 unless stored.

Every part computes in float32 and rounds to the weights' type where a prefill does: `like` is a number of that type.
Places are unsigned numbers: numba compares a signed one with zero, and a loop with that comparison is not vectorised.
"""

import numpy as np

from deltaprune.kernels._numba import compiled, exp, fma, full_width, narrow, silu, softplus, widen

CHANNELS = 48  # per unit of work
STATES = 16  # the usual number: a loop of known length is vectorised whole


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
def decay(A_log, at, count, a):
    """A = -exp(A_log) of some channels."""
    full_width()
    at = np.uintp(at)
    for i in range(count):
        a[i] = -exp(A_log[at + np.uintp(i)])


@compiled()
def _scaled(a, factor, at, order, h):
    """h = factor a, of one channel."""
    at = np.uintp(at)
    if order == STATES:
        for n in range(STATES):
            h[at + np.uintp(n)] = factor * a[at + np.uintp(n)]
    else:
        for n in range(order):
            h[at + np.uintp(n)] = factor * a[at + np.uintp(n)]


@compiled()
def _exponentials(h, count):
    """exp(h), in place."""
    full_width()
    for i in range(count):
        h[i] = exp(h[i])


@compiled()
def _recur(h, at, before, old, du, B, read, order):
    """h = h before + delta u B of one channel, where h holds exp(delta A)."""
    at, old, read = np.uintp(at), np.uintp(old), np.uintp(read)
    if order == STATES:
        for n in range(STATES):
            k = np.uintp(n)
            h[at + k] = fma(h[at + k], before[old + k], du * B[read + k])
    else:
        for n in range(order):
            k = np.uintp(n)
            h[at + k] = fma(h[at + k], before[old + k], du * B[read + k])


@compiled(reorders=True)
def _read(h, at, C, read, order):
    """C h of one channel."""
    at, read, total = np.uintp(at), np.uintp(read), np.float32(0)
    if order == STATES:
        for n in range(STATES):
            total += C[read + np.uintp(n)] * h[at + np.uintp(n)]
    else:
        for n in range(order):
            total += C[read + np.uintp(n)] * h[at + np.uintp(n)]
    return total


@compiled()
def scan(a, first, last, channels, order, dt, shift, skip, projected, B_at, uz, uz_at, before, after, b, gated, like):
    """One step of the scan, D and the gate, for some channels of sample `b`; dt comes without its bias.

    The state is computed in `h` and copied: a loop that may read what it writes is not vectorised.
    """
    full_width()
    count, at = last - first, np.uintp(b * channels + first)
    delta, y, h = np.empty(count, np.float32), np.empty(count, np.float32), np.empty(count * order, np.float32)
    for i in range(count):
        delta[i] = softplus(rounded(dt[at + np.uintp(i)], like) + shift[np.uintp(first + i)])
    for i in range(count):
        _scaled(a, delta[i], i * order, order, h)
    _exponentials(h, count * order)
    old = np.uintp((b * channels + first) * order)
    for i in range(count):
        u = uz[np.uintp(uz_at + first + i)]
        _recur(h, i * order, before, old + np.uintp(i * order), delta[i] * u, projected, B_at, order)
        y[i] = fma(skip[np.uintp(first + i)], u, _read(h, i * order, projected, B_at + order, order))
    for i in range(count * order):
        after[old + np.uintp(i)] = h[i]
    gate = np.uintp(uz_at + channels + first)
    for i in range(count):
        gated[at + np.uintp(i)] = rounded(y[i] * silu(uz[gate + np.uintp(i)]), like)
