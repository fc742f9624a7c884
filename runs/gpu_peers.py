"""Other engines beside ours in the same run of `gpu.py`: whole prefills on the same weights, mamba_ssm's scan alone.

mamba_ssm is measured where it can be imported: `mamba_ssm_kernels.py` prepares it for a machine without network.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.cost.peers import Peer, check_peer, peers
from deltaprune.cost.peers.mamba_ssm import missing, shared
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import prefill
from gpu_checks import distance, prompt
from gpu_tables import Row, drawn, graphed, milliseconds, scanned

SCAN_ALLOWED = 2e-2  # of the norm: theirs rounds each of its outputs to bfloat16


def others(lm: MambaLM, length: int, rounds: int) -> Iterator[Row]:
    """The prefill of the engines that are installed, on our weights, once their logits agree with ours.

    As they are called, beside ours without a graph; then each whose compiled kernels ran as one CUDA graph, beside ours
    as one, so that like is held against like. An engine in plain torch takes seconds: it has one round and no graph.
    """
    device, tokens = lm.backbone.embedding.weight.device, prompt(lm, 1, length)
    ours: Callable[[], object] = partial(prefill, lm, tokens, graphed=False)
    logits, x = lm.logits(prefill(lm, tokens).hidden), tokens.x[None]
    found = peers(lm)
    found += [stateless(lm, peer) for peer in found if peer.name == "mamba_ssm"]
    compiled = [peer for peer in found if "mamba_ssm" in peer.name]
    for peer in found:
        check_peer(peer, x, logits)
        taken = rounds if peer in compiled else 1
        yield beside(peer.name, length, milliseconds(partial(peer.prefill, x), device, taken), ours, device, rounds)
    if device.type == "cuda" and compiled:
        ours = graphed(ours, device)
        for peer in compiled:
            ms = milliseconds(graphed(partial(peer.prefill, x), device), device, rounds)
            yield beside(f"{peer.name}, one CUDA graph", length, ms, ours, device, rounds)
    told(device, found)


def stateless(lm: MambaLM, peer: Peer) -> Peer:
    """mamba_ssm's forward pass by itself: one fused call per mixer, and nothing to decode from."""
    theirs = shared(lm)

    @torch.no_grad()
    def run(x: Tensor) -> tuple[Tensor, None]:
        return theirs(x.to(peer.dtype))[:, -1], None

    return replace(peer, name=f"{peer.name}, no states kept", prefill=run)


def beside(name: str, length: int, ms: float, ours: Callable[[], object], device: torch.device, rounds: int) -> Row:
    """A peer's row; ours is timed right after it."""
    share = milliseconds(ours, device, rounds) / ms
    return Row("prefill", name, length, ms, None, f"unpruned, the same weights; ours takes {share:.3f} of its time")


def told(device: torch.device, found: list[Peer]) -> None:
    """mamba_ssm was brought along but did not run: an error of the run, not a row that is silently not there."""
    if device.type == "cuda" and find_spec("mamba_ssm") and not any(peer.name == "mamba_ssm" for peer in found):
        why = missing(device) or "its compiled kernels did not run"
        raise RuntimeError(f"mamba_ssm is here and was not measured: {why}")


def other_scans(config: MambaConfig, device: torch.device, lengths: list[int], rounds: int) -> Iterator[Row]:
    """mamba_ssm's CUDA scan in its own layout beside ours, where its compiled kernel is installed."""
    if missing(device) is not None:
        return
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn  # pyright: ignore[reportMissingImports]

    for length in lengths:
        t = drawn(config, device, length)
        u, dt, B, C, z = (t[name].T[None].contiguous() for name in ("u", "dt", "B", "C", "z"))
        run = partial(selective_scan_fn, u, dt, t["A"], B, C, t["D"], z, t["bias"], True, True)
        apart = scans_apart(run(), scanned(t))
        if not apart <= SCAN_ALLOWED:
            raise ArithmeticError(f"mamba_ssm's scan and ours lie {apart:.1e} apart: no time was taken.")
        ms = milliseconds(graphed(run, device), device, rounds, calls=10)
        ours = milliseconds(graphed(partial(scanned, t), device), device, rounds, calls=10)
        note = f"its layout, transposes not counted; ours takes {ours / ms:.3f} of its time"
        yield Row("kernels alone", "mamba_ssm selective_scan_fn", length, ms, None, note)


def scans_apart(theirs: tuple[Tensor, Tensor], ours: Any) -> float:
    """The worse distance of outputs and last states, NaN if one is; theirs are `(1, E, L)` and `(1, E, N)`."""
    out, state = theirs
    return torch.tensor([distance(out[0].T, ours.out), distance(state, ours.state)]).max().item()
