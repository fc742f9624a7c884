"""The last state on GPUs, in Triton; see `_triton_state` for the kernels.

Cut up as the scan is. Where time is split, a second, short launch folds the chunks' ends into one state (A is diagonal:
a chunk's decay is exp(A ΣΔ)), so that no exponential of a row is computed twice.
"""

import torch
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels._device import on_device_of
from deltaprune.kernels._triton import DEVICES, DTYPES, FUSED, PRIORITY, processors, rows, weights, why_not
from deltaprune.kernels.scan_state._state import ScanState
from deltaprune.kernels.selective_scan.triton import ROWS, Plan, plan

LEAST_CHUNKS = 2  # the work is done once, so that already two chunks halve the time


def scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    dt_bias: Tensor,
    cu_seqlens: Tensor,
    initial_state: Tensor | None,
    extras: frozenset[str],
    how: Plan | None = None,
) -> ScanState:
    """See `scan_state`; `how` overrules `plan`."""
    from deltaprune.kernels.scan_state import _triton_state as kernels  # imports triton: only where it runs

    (length, channels), order, sequences = u.shape, A.shape[1], len(cu_seqlens) - 1
    how = how or plan(length, sequences, channels, processors(u), LEAST_CHUNKS)
    blocks, split = -(-channels // how.lanes), how.chunks > 1

    def made(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=u.device)

    u, dt, B = (rows(x) for x in (u, dt, B))
    A, bias = weights(A, dt_bias)
    state = made(sequences, channels, order)
    before = state if initial_state is None else weights(initial_state)[0]
    delta = made(length, channels) if "delta" in extras else None
    sums = made(blocks, length) if "delta_mean" in extras else None
    ends = made(sequences, how.chunks, order, channels) if split else state
    totals = made(sequences, how.chunks, channels) if split else state
    tile = {"E": channels, "N": order, "NS": 1 << (order - 1).bit_length(), "LANES": how.lanes, "num_warps": 1, **FUSED}
    with on_device_of(u):
        kernels.ends_of_chunks[(blocks * sequences, how.chunks)](
            u, dt, B, A, bias, cu_seqlens, before, ends, totals, delta, sums, length, blocks, how.chunks,
            u_step=u.stride(0), dt_step=dt.stride(0), B_step=B.stride(0), CARRIED=initial_state is not None,
            WHOLE=not split, ROWS=ROWS, **tile,
        )  # fmt: skip
        if split:
            kernels.fold_chunks[(blocks * sequences,)](A, ends, totals, state, blocks, how.chunks, **tile)
    # Block sums in float64, so that the order in which torch adds them does not show.
    mean = None if sums is None else (sums.sum(0, dtype=torch.float64) / channels).float()
    filled = {"delta": delta, "delta_mean": mean}
    return ScanState(state, **{name: filled[name] for name in extras})


BACKEND = Backend(
    op="scan_state",
    name="triton",
    devices=DEVICES,
    carries_state=True,
    probe=why_not,
    fn=scan,
    dtypes=DTYPES,
    priority=PRIORITY,
    capturable=True,
)
