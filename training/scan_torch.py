"""The scan and the convolution of ``training.scan`` in plain torch: any device, autograd through, no loop over tokens.

The scan pads segments to the longest of their kind (roots, then children) and cuts them into chunks: positions of a
chunk are stepped through for all chunks of all segments at once, then chunk states are chained.
"""

import torch
import torch.nn.functional as F

CHUNK = 16


def gated_scan_torch(u, dt, A_log, B, C, D, z, dt_bias, cu_seqlens, parent):
    """``gated_scan``, same shapes: y (T, E)."""
    cu, parent = (torch.as_tensor(t, device=u.device).long() for t in (cu_seqlens, parent))
    delta, A = F.softplus(dt + dt_bias), -A_log.exp()
    is_root = parent < 0
    roots, children = torch.nonzero(is_root)[:, 0], torch.nonzero(~is_root)[:, 0]
    tokens = (delta, delta * u, B, C)
    zero = u.new_zeros(len(roots), *A.shape)
    y, rows, final = _scan_kind(tokens, A, cu, roots, zero)
    if len(children):
        place = torch.cumsum(is_root, 0) - 1
        y_child, rows_child, _ = _scan_kind(tokens, A, cu, children, final[place[parent[children]]])
        y, rows = torch.cat([y, y_child]), torch.cat([rows, rows_child])
    y = torch.zeros_like(u).index_copy(0, rows, y)
    return (y + D * u) * F.silu(z)


def _scan_kind(tokens, A, cu, segments, initial):
    """Scan the listed segments from ``initial`` (S, E, N): outputs (R, E), their rows (R,), final states (S, E, N)."""
    start, length = cu[segments], cu[segments + 1] - cu[segments]
    longest = -(-int(length.max()) // CHUNK) * CHUNK
    position = torch.arange(longest, device=cu.device)
    valid = position < length[:, None]
    index = torch.where(valid, start[:, None] + position, 0)
    delta, dx, B, C = (torch.where(valid[..., None], t[index], 0).unflatten(1, (-1, CHUNK)) for t in tokens)
    y, final = _scan_chunks(delta, dx, A, B, C, initial)
    return y[valid], index[valid], final


def _scan_chunks(delta, dx, A, B, C, initial):
    """Chunked scan: delta, dx (S, K, L, E), B, C (S, K, L, N), initial (S, E, N) -> y (S, K L, E), final (S, E, N)."""
    h, local = dx.new_zeros(()), []
    for i in range(delta.shape[2]):
        h = torch.exp(delta[:, :, i, :, None] * A) * h + dx[:, :, i, :, None] * B[:, :, i, None, :]
        local.append(h)
    elapsed = torch.exp(delta.cumsum(2)[..., None] * A)
    state, carried = initial, []
    for k in range(delta.shape[1]):
        carried.append(state)
        state = elapsed[:, k, -1] * state + h[:, k]
    h = torch.stack(local, 2) + elapsed * torch.stack(carried, 1)[:, :, None]
    return torch.einsum("skien,skin->skie", h, C).flatten(1, 2), state


def conv_silu_torch(x, weight, bias, cu_seqlens, parent):
    """``conv_silu``, same shapes: (T, E)."""
    cu, parent = (torch.as_tensor(t, device=x.device).long() for t in (cu_seqlens, parent))
    segment = torch.repeat_interleave(torch.arange(len(parent), device=x.device), cu.diff())
    start, above = cu[segment], parent[segment]
    first = torch.where(above < 0, start, cu[above.clamp(min=0)])
    stop = torch.where(above < 0, start, cu[above.clamp(min=0) + 1])
    row = torch.arange(len(x), device=x.device)[:, None] - torch.arange(weight.shape[1] - 1, -1, -1, device=x.device)
    back = row - start[:, None] + stop[:, None]
    source = torch.where(row >= start[:, None], row, torch.where(back >= first[:, None], back, len(x)))
    windows = torch.cat([x, x.new_zeros(1, x.shape[1])])[source]
    return F.silu(torch.einsum("twe,ew->te", windows, weight) + bias)
