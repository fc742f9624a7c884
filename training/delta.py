"""The gated delta rule over packed trees of segments, forward and backward, on CPU; see `training.scan` for the trees.

S_t = exp(g_t) S_{t-1} + beta_t k_t (v_t - k_t^T exp(g_t) S_{t-1})^T, y_t = S_t^T q_t (Yang et al. 2024,
arXiv 2412.06464); S before a segment is 0, or the final S of its parent.
"""

# numba compiles these functions with other signatures than the ones written.
# pyright: reportCallIssue=false

import torch
from torch import Tensor

from training._delta_kernels import SIDE, delta_backward, delta_forward
from training.scan import plan_of, rows_of


def delta_rule(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, cu_seqlens: Tensor, parent: Tensor) -> Tensor:
    """Differentiable: q, k (T, K, 32), v (T, H, 32), g and beta (T, H), float32 -> y (T, H, 32).

    H is a multiple of K: value head h reads key head h // (H // K). Nothing is normalised or scaled here.
    """
    if {q.shape[-1], k.shape[-1], v.shape[-1]} != {SIDE}:
        raise ValueError(f"the kernels take heads of {SIDE}, got {q.shape[-1]}, {k.shape[-1]} and {v.shape[-1]}")
    return _DeltaRule.apply(q, k, v, g.exp(), beta, plan_of(cu_seqlens, parent))  # pyright: ignore[reportReturnType]


class _DeltaRule(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, decay, beta, plan):
        q, k, v, decay, beta = (t.detach().contiguous() for t in (q, k, v, decay, beta))
        seen, y = v.new_empty(v.shape), v.new_empty(v.shape)
        delta_forward(*map(rows_of, (q, k, v, decay, beta)), *plan, seen.numpy(), y.numpy())
        ctx.save_for_backward(q, k, decay, beta, seen)
        ctx.plan = plan
        return y

    @staticmethod
    def backward(ctx, dy):  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, decay, beta, seen = ctx.saved_tensors
        dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.empty_like(seen)
        ddecay, dbeta = torch.empty_like(decay), torch.empty_like(beta)
        given = map(rows_of, (q, k, decay, beta, seen, dy.contiguous()))
        cu = ctx.plan[0]
        longest = int((cu[1:] - cu[:-1]).max())
        delta_backward(*given, *ctx.plan, longest, *(t.numpy() for t in (dq, dk, dv, ddecay, dbeta)))
        return dq, dk, dv, ddecay, dbeta, None
