"""The selective scan of Mamba over packed sequences."""

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from deltaprune.errors import UserError, did_you_mean
from deltaprune.kernels._backend import select
from deltaprune.kernels._packed import check_boundaries
from deltaprune.kernels.selective_scan._scan import EXTRAS, Scan, empty

__all__ = ["Scan", "selective_scan"]


def selective_scan(
    u: Float[Tensor, "T E"],
    dt: Float[Tensor, "T E"],
    A: Float[Tensor, "E N"],
    B: Float[Tensor, "T N"],
    C: Float[Tensor, "T N"],
    D: Float[Tensor, "E"],
    z: Float[Tensor, "T E"],
    dt_bias: Float[Tensor, "E"],
    cu_seqlens: Int32[Tensor, "S_plus_1"],
    initial_state: Float[Tensor, "S E N"] | None = None,
    extras: frozenset[str] = frozenset(),
    backend: str | None = None,
) -> Scan:
    """The recurrence of Mamba (arXiv:2312.00752, algorithm 2), channel by channel:

        Δ_t = softplus(dt_t + dt_bias)
        h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t u_t
        y_t = C_t h_t + D u_t
        out = y_t silu(z_t)

    B-bar is the Euler form Δ B, as in the official kernel (mamba_ssm `selective_scan_fn`), not the zero-order hold that
    the papers print. Everything is computed in float32 (float64 inputs: in float64).

    Args:
        u, dt, z: T packed rows of E channels, one type; `dt` before bias and softplus. Rows may be cut from wider ones.
        A: negative (-exp(A_log)), float32; N states per channel.
        B, C: shared by all channels.
        D, dt_bias: float32.
        cu_seqlens: where the S sequences begin and end, `[0, ..., T]`; a sequence may be empty.
        initial_state: h before each sequence's first row; zeros if None.
        extras: which of `delta`, `delta_mean` and `y` to fill in the result.
        backend: a backend's name; None takes the best one for the device.
    """
    for extra in extras - EXTRAS:
        raise UserError(f"`selective_scan(extras=...)` knows no {extra!r}: {did_you_mean(extra, EXTRAS)}.")
    _check_shapes(u, dt, A, B, C, D, z, dt_bias, cu_seqlens, initial_state)
    if len(u) == 0:
        return empty(u, A, len(cu_seqlens) - 1, initial_state, extras)
    tensors = (u, dt, A, B, C, D, z, dt_bias, initial_state)
    gradients = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)
    chosen = select(__name__, u.device, backend, initial_state is not None, u.dtype, gradients)
    return chosen.fn(u, dt, A, B, C, D, z, dt_bias, cu_seqlens, initial_state, extras)


def _check_shapes(u, dt, A, B, C, D, z, dt_bias, cu_seqlens, initial_state) -> None:
    """A compiled kernel must never read beyond a tensor, also where no shape checker runs."""
    (length, channels), order, sequences = u.shape, A.shape[1], len(cu_seqlens) - 1
    fits = (
        u.shape == dt.shape == z.shape
        and u.dtype == dt.dtype == z.dtype
        and A.shape[0] == channels
        and D.shape == dt_bias.shape == (channels,)
        and B.shape == C.shape == (length, order)
        and (initial_state is None or initial_state.shape == (sequences, channels, order))
    )
    if not fits:
        given = {"u": u, "dt": dt, "A": A, "B": B, "C": C, "D": D, "z": z, "dt_bias": dt_bias, "state": initial_state}
        told = ", ".join(f"{k} {tuple(x.shape)} {x.dtype}" for k, x in given.items() if x is not None)
        raise ValueError(f"`selective_scan`: shapes or types do not fit {sequences} sequences: {told}.")
    check_boundaries(cu_seqlens, length)
