"""The scan on GPUs, in Triton; see `_triton_scan` for the kernels, and `scan_state` for the ends of chunks.

A sequence is one loop over time. Where channels and sequences are too few to fill the GPU, time is split as well:
every chunk's end state from zero and its sum of Δ; then, at the head of the second launch, each chunk folds the chunks
before it into the state it starts from (A is diagonal: a chunk's decay is exp(A ΣΔ)) and scans. This costs the
exponentials twice.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels._device import on_device_of
from deltaprune.kernels._triton import DEVICES, DTYPES, FUSED, PRIORITY, processors, rows, weights, why_not
from deltaprune.kernels.selective_scan._scan import Scan

SHORT = 64  # rows per sequence up to which a launch is all latency
MOST_CHUNKS = 16  # a chunk's head folds all chunks before it
ROWS_PER_CHUNK = 16  # fewer are not worth the head
ROWS = 4  # read together, ahead of their use; more would take more registers than 16 warps have


@dataclass(frozen=True)
class Plan:
    """How a call is cut up: channels per program, which is one warp, and chunks of time per sequence."""

    lanes: int
    chunks: int


def plan(length: int, sequences: int, channels: int, multiprocessors: int, least: int = 4) -> Plan:
    """A warp per 32 channels, and chunks of time until 16 warps, 4 per scheduler, stand on every multiprocessor.

    Tens of rows: time is not split; where there is room, 8 channels per warp, hence 4 threads per channel, each with a
    quarter of its states. Fewer chunks than `least` (three do not make up for doing the work twice) are one.
    """
    mean, room = length / sequences, 16 * multiprocessors
    warps = sequences * -(-channels // 32)
    if mean <= SHORT:
        return Plan(lanes=8 if 4 * warps <= room else 32, chunks=1)
    chunks = min(MOST_CHUNKS, int(mean) // ROWS_PER_CHUNK, room // warps)
    return Plan(lanes=32, chunks=chunks if chunks >= least else 1)


def scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    dt_bias: Tensor,
    cu_seqlens: Tensor,
    initial_state: Tensor | None,
    extras: frozenset[str],
    how: Plan | None = None,
) -> Scan:
    """See `selective_scan`; `how` overrules `plan`."""
    from deltaprune.kernels.scan_state._triton_state import ends_of_chunks  # imports triton: only where it runs
    from deltaprune.kernels.selective_scan._triton_scan import scan_chunks

    (length, channels), order, sequences = u.shape, A.shape[1], len(cu_seqlens) - 1
    how = how or plan(length, sequences, channels, processors(u))
    blocks, split = -(-channels // how.lanes), how.chunks > 1

    def made(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=u.device)

    u, dt, z, B, C = (rows(x) for x in (u, dt, z, B, C))
    A, D, bias = weights(A, D, dt_bias)
    out = torch.empty(u.shape, dtype=u.dtype, device=u.device)
    state = made(sequences, channels, order)
    before = state if initial_state is None else weights(initial_state)[0]
    delta, y = (made(length, channels) if name in extras else None for name in ("delta", "y"))
    sums = made(blocks, length) if "delta_mean" in extras else None
    ends = made(sequences, how.chunks, order, channels) if split else state
    totals = made(sequences, how.chunks, channels) if split else state
    fixed = {
        "E": channels, "u_step": u.stride(0), "dt_step": dt.stride(0), "B_step": B.stride(0),
        "N": order, "NS": 1 << (order - 1).bit_length(), "LANES": how.lanes, "ROWS": ROWS, "num_warps": 1, **FUSED,
    }  # fmt: skip
    with on_device_of(u):
        if split:
            ends_of_chunks[(blocks * sequences, how.chunks - 1)](
                u, dt, B, A, bias, cu_seqlens, before, ends, totals, None, None, length, blocks, how.chunks,
                CARRIED=False, WHOLE=False, **fixed,
            )  # fmt: skip
        scan_chunks[(blocks * sequences, how.chunks)](
            u, dt, z, B, C, A, D, bias, cu_seqlens, before, ends, totals, out, state, delta, y, sums,
            length, blocks, how.chunks, z_step=z.stride(0), C_step=C.stride(0), CARRIED=initial_state is not None,
            **fixed,
        )  # fmt: skip
    # Block sums in float64, so that the order in which torch adds them does not show.
    mean = None if sums is None else (sums.sum(0, dtype=torch.float64) / channels).float()
    filled = {"delta": delta, "delta_mean": mean, "y": y}
    return Scan(out, state, **{name: filled[name] for name in extras})


BACKEND = Backend(
    op="selective_scan",
    name="triton",
    devices=DEVICES,
    carries_state=True,
    probe=why_not,
    fn=scan,
    dtypes=DTYPES,
    priority=PRIORITY,
    capturable=True,
)
