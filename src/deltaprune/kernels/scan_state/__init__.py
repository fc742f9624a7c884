"""The last state of Mamba's selective scan, without its outputs."""

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from deltaprune.errors import UserError, did_you_mean
from deltaprune.kernels._backend import select
from deltaprune.kernels._packed import check_boundaries
from deltaprune.kernels.scan_state._state import EXTRAS, ScanState
from deltaprune.kernels.selective_scan._scan import untouched, working_type

__all__ = ["ScanState", "scan_state"]


def scan_state(
    u: Float[Tensor, "T E"],
    dt: Float[Tensor, "T E"],
    A: Float[Tensor, "E N"],
    B: Float[Tensor, "T N"],
    dt_bias: Float[Tensor, "E"],
    cu_seqlens: Int32[Tensor, "S_plus_1"],
    initial_state: Float[Tensor, "S E N"] | None = None,
    extras: frozenset[str] = frozenset(),
    backend: str | None = None,
) -> ScanState:
    """What rows write into a layer's state when nobody reads their outputs: `selective_scan` without y, C, D and z.

        Δ_t = softplus(dt_t + dt_bias)
        h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t u_t

    (arXiv:2312.00752, algorithm 2, with the Euler form of B-bar.) The result is h after each sequence's last row.
    Everything is computed in float32 (float64 inputs: in float64); the reference and numba give the same bits as
    `selective_scan` does.

    Args:
        u, dt: T packed rows of E channels, one type; `dt` before bias and softplus. Rows may be cut from wider ones.
        A: negative (-exp(A_log)), float32; N states per channel.
        B: shared by all channels.
        dt_bias: float32.
        cu_seqlens: where the S sequences begin and end, `[0, ..., T]`; an empty sequence keeps its state.
        initial_state: h before each sequence's first row; zeros if None.
        extras: which of `delta` and `delta_mean` to fill in the result.
        backend: a backend's name; None takes the best one for the device.

    Raises:
        UserError: an unknown extra, or a backend that cannot run this.
        ValueError: shapes, types or boundaries that do not fit together.
    """
    for extra in extras - EXTRAS:
        raise UserError(f"`scan_state(extras=...)` knows no {extra!r}: {did_you_mean(extra, EXTRAS)}.")
    _check_shapes(u, dt, A, B, dt_bias, cu_seqlens, initial_state)
    if len(u) == 0:
        rows = u.new_empty(u.shape, dtype=working_type(u))
        nothing = {"delta": rows, "delta_mean": rows.new_empty(0)}
        state = untouched(u, A, len(cu_seqlens) - 1, initial_state)
        return ScanState(state, **{name: nothing[name] for name in extras})
    tensors = (u, dt, A, B, dt_bias, initial_state)
    gradients = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)
    chosen = select(__name__, u.device, backend, initial_state is not None, u.dtype, gradients)
    return chosen.fn(u, dt, A, B, dt_bias, cu_seqlens, initial_state, extras)


def _check_shapes(u, dt, A, B, dt_bias, cu_seqlens, initial_state) -> None:
    """A compiled kernel must never read beyond a tensor, also where no shape checker runs."""
    (length, channels), order, sequences = u.shape, A.shape[1], len(cu_seqlens) - 1
    fits = (
        u.shape == dt.shape
        and u.dtype == dt.dtype
        and A.shape[0] == channels
        and B.shape == (length, order)
        and dt_bias.shape == (channels,)
        and (initial_state is None or initial_state.shape == (sequences, channels, order))
    )
    if not fits:
        given = {"u": u, "dt": dt, "A": A, "B": B, "dt_bias": dt_bias, "state": initial_state}
        told = ", ".join(f"{k} {tuple(x.shape)} {x.dtype}" for k, x in given.items() if x is not None)
        raise ValueError(f"`scan_state`: shapes or types do not fit {sequences} sequences: {told}.")
    check_boundaries(cu_seqlens, length)
