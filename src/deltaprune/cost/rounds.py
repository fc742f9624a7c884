"""One round of a measurement: a method, or a peer, once from pixels to the last decoded token."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deltaprune.cost.peers import Peer, check_peer
from deltaprune.cost.stopwatch import Stopwatch
from deltaprune.cost.timing import timed
from deltaprune.cuda_graphs.step import stepping
from deltaprune.prefill import Prefilled, prefill
from deltaprune.rows import Rows
from deltaprune.steps import Step, side_of, stages_of
from deltaprune.vlm import VLM


@dataclass
class Round:
    """One contestant's times in one round, milliseconds."""

    vision: float
    prefill: float
    decode: float
    choose: float
    products: float = 0.0
    short: float = 0.0
    short_products: float = 0.0
    total: float = 0.0
    replayed: bool = False  # whether a CUDA graph was replayed for the prefill


def prompts(vlm: VLM, batch: int, text_tokens: int, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """Random pixels of each tower and random text ids."""
    generator = torch.Generator().manual_seed(seed)
    towers = vlm.config.towers.items()
    pixels = {n: torch.randn(batch, 3, t.image_size, t.image_size, generator=generator) for n, t in towers}
    ids = torch.randint(vlm.config.lm.vocab_size, (batch, text_tokens), generator=generator)
    return {name: value.to(vlm.device) for name, value in pixels.items()}, ids.to(vlm.device)


@torch.no_grad()
def method_round(
    vlm: VLM,
    steps: tuple[Step, ...],
    pixels: dict[str, Tensor],
    ids: Tensor,
    new_tokens: int,
    with_choose: bool = True,
) -> Round:
    """One method, once; the time of choosing needs a prefill of its own and can be left out."""
    lm, device = vlm.model.lm, vlm.device
    visual, vision = timed(lambda: vlm.model.encode(pixels, side_of(steps)), device)
    text = lm.embed(ids)
    tokens = Rows.pack(list(visual), list(text))
    prefilled, prefill_ms = timed(lambda: prefill(lm, tokens, steps), device)
    _, decode_ms = timed(lambda: _decode(vlm, prefilled, new_tokens), device)
    watch = Stopwatch(device)
    if with_choose and any(stage.score is not None for stage in stages_of(steps)):
        prefill(lm, tokens, tuple(watch.on(step) for step in steps), graphed=False)
    return Round(vision, prefill_ms, decode_ms / new_tokens, watch.ms, replayed=prefilled.replayed)


@torch.no_grad()
def peer_round(vlm: VLM, peer: Peer, pixels: dict[str, Tensor], ids: Tensor, new_tokens: int) -> Round:
    """One peer, once, after our vision towers."""
    lm, device = vlm.model.lm, vlm.device
    visual, vision = timed(lambda: vlm.model.encode(pixels), device)
    x = torch.cat([visual, lm.embed(ids)], dim=1)
    (hidden, state), prefill_ms = timed(lambda: peer.prefill(x), device)
    following = peer.logits(hidden).argmax(-1)

    def decode() -> None:
        token = following
        for _ in range(new_tokens):
            token = peer.decode(token, state).argmax(-1)

    _, decode_ms = timed(decode, device)
    return Round(vision, prefill_ms, decode_ms / new_tokens, 0.0)


@torch.no_grad()
def check_peers(vlm: VLM, peers: Sequence[Peer], pixels: dict[str, Tensor], ids: Tensor) -> None:
    """Check that every peer gives our logits on the start of the prompts: 32 visual tokens and the text."""
    if not peers:
        return
    lm = vlm.model.lm
    visual, text = vlm.model.encode(pixels)[:, :32], lm.embed(ids)
    ours = lm.logits(prefill(lm, Rows.pack(list(visual), list(text))).hidden)
    for peer in peers:
        check_peer(peer, torch.cat([visual, text], dim=1), ours)


@torch.no_grad()
def _decode(vlm: VLM, prefilled: Prefilled, new_tokens: int) -> None:
    """Decode exactly `new_tokens` tokens after the first, whatever they are, by the step that `generate` takes."""
    ids = vlm.model.lm.logits(prefilled.hidden).argmax(-1)
    with stepping(vlm.model.lm, list(prefilled.states)) as step:
        for _ in range(new_tokens):
            ids = step(ids).argmax(-1)
