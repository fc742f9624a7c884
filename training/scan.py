"""Gated selective scan and causal convolution over packed trees of segments, forward and backward, on CPU.

Rows of T tokens, channel-last, are cut into S segments by ``cu_seqlens`` (S + 1,). ``parent`` (S,) is -1 for a root,
else the index of the earlier root segment that the segment continues: the scan starts from the root's final state, the
convolution window reaches back into the root's last rows. A root and its children are a *group*; groups are
independent, and the numba kernels run in parallel over a fixed number of jobs, lists of groups of about equal size,
so that results do not depend on the number of threads. Tensors on another device go to ``training.scan_torch``.
"""

# numba compiles these functions with other signatures than the ones written: intrinsics take a typing context first.
# pyright: reportCallIssue=false

import numpy as np
import torch
from torch.nn.functional import pad

from training._kernels import JOBS, LANES, conv_backward, conv_forward, scan_backward, scan_forward
from training.scan_torch import conv_silu_torch, gated_scan_torch


def gated_scan(u, dt, A_log, B, C, D, z, dt_bias, cu_seqlens, parent):
    """Differentiable gated selective scan: u, dt, z (T, E), A_log (E, N), B, C (T, N), D, dt_bias (E,) -> y (T, E).

    delta = softplus(dt + dt_bias), A = -exp(A_log), h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t,
    y_t = (sum_n C_t[n] h_t[n] + D u_t) * silu(z_t); h before a segment is 0, or the final h of its parent.
    """
    if u.device.type != "cpu":
        return gated_scan_torch(u, dt, A_log, B, C, D, z, dt_bias, cu_seqlens, parent)
    width = u.shape[1]
    if extra := -width % LANES:
        u, dt, z, D, dt_bias = (pad(t, (0, extra)) for t in (u, dt, z, D, dt_bias))
        A_log = pad(A_log, (0, 0, 0, extra))
    y = _GatedScan.apply(u, dt, A_log, B, C, D, z, dt_bias, plan_of(cu_seqlens, parent))
    return y[:, :width] if extra else y


def conv_silu(x, weight, bias, cu_seqlens, parent):
    """Differentiable silu(causal depthwise convolution): x (T, E), weight (E, W), bias (E,) -> (T, E).

    pre_t = bias + sum_k weight[:, W - 1 - k] x_{t-k}, where rows before a root's first are zero and rows before a
    child's first are its parent's last.
    """
    if x.device.type != "cpu":
        return conv_silu_torch(x, weight, bias, cu_seqlens, parent)
    width = x.shape[1]
    if extra := -width % LANES:
        x, bias, weight = pad(x, (0, extra)), pad(bias, (0, extra)), pad(weight, (0, 0, 0, extra))
    y = _ConvSilu.apply(x, weight, bias, plan_of(cu_seqlens, parent))
    return y[:, :width] if extra else y


def plan_of(cu_seqlens, parent):
    """Kernel schedule (cu, parent, order, group_ptr, job_ptr), all int64.

    ``order`` lists segments group by group, root first; group g is order[group_ptr[g]:group_ptr[g + 1]], job j the
    groups job_ptr[j]:job_ptr[j + 1], dealt out by falling size so that jobs are about equal.
    """
    cu, parent = (np.asarray(t.cpu() if torch.is_tensor(t) else t, dtype=np.int64) for t in (cu_seqlens, parent))
    roots = np.flatnonzero(parent < 0)
    group = np.searchsorted(roots, np.where(parent < 0, np.arange(len(parent)), parent))
    size = np.bincount(group, weights=np.diff(cu), minlength=len(roots))
    turn = np.arange(len(roots)) % (2 * JOBS)
    job = np.empty(len(roots), dtype=np.int64)
    job[np.argsort(-size, kind="stable")] = np.minimum(turn, 2 * JOBS - 1 - turn)
    by_job = np.argsort(job, kind="stable")
    place = np.empty(len(roots), dtype=np.int64)
    place[by_job] = np.arange(len(roots))
    order = np.argsort(place[group], kind="stable")
    group_ptr = np.concatenate(([0], np.cumsum(np.bincount(place[group], minlength=len(roots)))))
    job_ptr = np.concatenate(([0], np.cumsum(np.bincount(job, minlength=JOBS))))
    return cu, parent, order, group_ptr, job_ptr


def rows_of(tensor):
    """A numpy view (float32, channels contiguous) of a tensor; copies only where the last axis is strided."""
    if tensor.dtype != torch.float32:
        raise TypeError(f"the CPU kernels take float32, got {tensor.dtype}")
    tensor = tensor.detach()
    return (tensor if tensor.stride(-1) == 1 else tensor.contiguous()).numpy()


class _GatedScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, dt, A_log, B, C, D, z, dt_bias, plan):
        ctx.save_for_backward(u, dt, A_log, B, C, D, z, dt_bias)
        ctx.plan = plan
        y = u.new_empty(u.shape)
        A = -A_log.exp().t().contiguous()
        scan_forward(*map(rows_of, (u, dt, A, B, C, D, z, dt_bias)), *plan, y.numpy())
        return y

    @staticmethod
    def backward(ctx, dy):  # pyright: ignore[reportIncompatibleMethodOverride]
        u, dt, A_log, B, C, D, z, dt_bias = ctx.saved_tensors
        A = -A_log.exp().t().contiguous()
        du, ddt, dz = (u.new_empty(u.shape) for _ in range(3))
        dB, dC = u.new_empty(B.shape), u.new_empty(C.shape)
        dA = u.new_zeros(JOBS, *A.shape)
        dD, dbias = u.new_zeros(JOBS, 1, u.shape[1]), u.new_zeros(JOBS, 1, u.shape[1])
        outputs = (t.numpy() for t in (du, ddt, dz, dB, dC, dA, dD, dbias))
        scan_backward(*map(rows_of, (u, dt, A, B, C, D, z, dt_bias, dy)), *ctx.plan, *outputs)
        return du, ddt, (dA.sum(0) * A).t(), dB, dC, dD.sum((0, 1)), dz, dbias.sum((0, 1)), None


class _ConvSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, plan):
        ctx.save_for_backward(x, weight, bias)
        ctx.plan = plan
        y = x.new_empty(x.shape)
        conv_forward(rows_of(x), weight.detach().t().contiguous().numpy(), rows_of(bias), *plan, y.numpy())
        return y

    @staticmethod
    def backward(ctx, dy):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, bias = ctx.saved_tensors
        dx = x.new_zeros(x.shape)
        dweight = x.new_zeros(JOBS, weight.shape[1] + 1, x.shape[1])
        taps = weight.detach().t().contiguous().numpy()
        conv_backward(rows_of(x), taps, rows_of(bias), rows_of(dy), *ctx.plan, dx.numpy(), dweight.numpy())
        dweight = dweight.sum(0)
        return dx, dweight[:-1].t(), dweight[-1], None
