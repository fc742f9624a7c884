"""How the cost of a prefill grows with its length: twice the tokens, twice the time and the memory of a recurrence."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import torch

from deltaprune.cost.timing import forget_peak, peak_bytes, release_freed, spread, timed
from deltaprune.cost.verify import verify_kernels
from deltaprune.cuda_graphs.step import stepping
from deltaprune.errors import UserError
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import prefill
from deltaprune.rows import Rows

LENGTHS = (256, 512, 1024, 2048, 4096, 8192, 16384)


@torch.no_grad()
def growth(
    lm: MambaLM,
    name: str,
    lengths: Sequence[int] = LENGTHS,
    rounds: int = 3,
    on_round: Callable[[int, int], None] | None = None,
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Time the unpruned prefill, and one decoded token after it, at every length; no prefill is a CUDA graph.

    Args:
        lm: the LM; random weights will do.
        name: of the LM in the rows.
        lengths: tokens, ascending.
        rounds: measured ones, the lengths taking turns; one more warms up.
        on_round: called with (done, total).

    Returns:
        JSON rows as `bench` gives them, and time(b) / time(a) of neighbouring lengths as "b/a", taken within a round.

    Raises:
        KernelMismatch: the kernels disagree with their references; nothing is timed.
        UserError: no lengths, or none that ascend.
    """
    if not lengths or any(a >= b for a, b in pairwise(lengths)) or lengths[0] < 1 or rounds < 1:
        raise UserError(f"lengths={tuple(lengths)} must ascend from at least 1, and rounds={rounds} be at least 1.")
    device = lm.device
    kernels = verify_kernels(device, lm.dtype)
    times: dict[int, list[float]] = {length: [] for length in lengths}
    decode: dict[int, list[float]] = {length: [] for length in lengths}
    peaks: dict[int, list[int]] = {length: [] for length in lengths}
    for i in range(rounds + 1):
        for length in lengths:
            x = torch.randn(length, lm.config.d_model, generator=torch.Generator().manual_seed(length)).to(device)
            tokens = Rows.pack([x[:0]], [x])
            release_freed()
            forget_peak(device)
            done, ms = timed(lambda tokens=tokens: prefill(lm, tokens, graphed=False), device)
            peaks[length].append(peak_bytes(device))
            ids = torch.zeros(1, dtype=torch.int64, device=device)
            with stepping(lm, list(done.states)) as step:
                _, step_ms = timed(lambda ids=ids, step=step: step(ids), device)
            times[length] += [ms] if i else []
            decode[length] += [step_ms] if i else []
        if on_round:
            on_round(i + 1, rounds + 1)
    rows = [
        {
            "name": name,
            "method": "none",
            "tokens": length,
            "batch": 1,
            "dtype": str(lm.dtype).removeprefix("torch."),
            "device": device.type,
            "kernel": kernels["selective_scan"],
            "prefill_ms": median(times[length]),
            "decode_ms": median(decode[length]),
            "peak_bytes": min(peaks[length]),  # an earlier, longer run keeps memory
            "spread": {"prefill": spread(times[length])},
        }
        for length in lengths
    ]
    ratios = {f"{b}/{a}": median(y / x for x, y in zip(times[a], times[b], strict=True)) for a, b in pairwise(lengths)}
    return rows, ratios
