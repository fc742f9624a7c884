"""How much the last output of the selective scan takes from every row."""

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.kernels._backend import select

__all__ = ["hidden_attention"]


def hidden_attention(
    delta: Float[Tensor, "L E"],
    A: Float[Tensor, "E N"],
    B: Float[Tensor, "L N"],
    c: Float[Tensor, "N"],
    backend: str | None = None,
) -> Float[Tensor, "L"]:
    """The last row of the implicit attention matrix of one sequence, as a mean over channels (the paper, eqs. 3-5):

        a_j = mean_d |Δ_{j,d} Σ_n c_n B_{j,n} exp(A_{d,n} S_{j,d})|,    S_{j,d} = Σ_{k>j} Δ_{k,d}

    S is summed in float64 from the last row on, so that it keeps its digits where a small sum follows large steps; the
    rest is float32 (float64 inputs: float64). The error of a_j in float32 is at most

        mean_d Δ_{j,d} Σ_n |c_n B_{j,n}| e^x (3e-6 + 2e-7 |x|),    x = A_{d,n} S_{j,d} > -87,  N <= 16;

    below -87 the exponential may be 0. O(L E N) exponentials; no backend but the reference holds anything of (L, E).

    Args:
        delta: steps after bias and softplus, not negative. Rows may be cut from wider ones, as may those of B.
        A: negative, N states per channel.
        B: shared by all channels.
        c: the last row of C.
        backend: a backend's name; None takes the best one for the device.

    Returns:
        One value per row, not negative, in the type of `delta`.
    """
    (length, channels), order = delta.shape, A.shape[1]
    if A.shape[0] != channels or B.shape != (length, order) or c.shape != (order,):
        given = {"delta": delta, "A": A, "B": B, "c": c}
        told = ", ".join(f"{name} {tuple(x.shape)}" for name, x in given.items())
        raise ValueError(f"`hidden_attention`: shapes do not fit: {told}.")
    if length == 0:
        return delta.new_empty(0)
    gradients = torch.is_grad_enabled() and any(x.requires_grad for x in (delta, A, B, c))
    chosen = select(__name__, delta.device, backend, dtype=delta.dtype, gradients=gradients)
    return chosen.fn(delta, A, B, c)
