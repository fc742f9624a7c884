"""Pruning written out: no cache, no hooks while layers run, every row recomputed, one sample at a time.

The model's own forward pass prepares what enters its decoder layers; from there on each layer is called by a loop.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from families import IMAGE
from torch import Tensor

from deltaprune.inplace.target import Target

Read = Callable[[Any, Tensor, Tensor, Tensor | None], Tensor | None]


class Stop(Exception):
    """What enters the text model is known."""


def entering(model: Any, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of the text model."""
    text, caught = Target(model).text, {}

    def catch(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        caught.update(kwargs)
        raise Stop

    handle = text.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        model(**inputs, use_cache=False)
    except Stop:
        pass
    finally:
        handle.remove()
    return caught


def positions_of(given: Mapping[str, Any], length: int) -> tuple[Tensor, Tensor]:
    """Positions as the rotary table takes them, and those of the text."""
    told = given.get("position_ids")
    plain = torch.arange(length)[None]
    if told is None:
        return plain, plain
    if told.ndim == 3:
        return (told[1:], told[0]) if len(told) == 4 else (told, plain)
    return told, told


def logits(
    model: Any,
    inputs: Mapping[str, Tensor],
    more: list[int],
    stages: Mapping[int, float],
    read: Read,
    kept: dict[int, Tensor],
    turn: tuple[int, Mapping[int, Tensor]] = (0, {}),
    skipped: Collection[int] = (),
    written: Collection[int] = (),
) -> Tensor:
    """Logits behind the last of `more` tokens that follow the prompt of one sample.

    Args:
        stages: after how many layers, and the share of the image that is left from there on.
        read: `(layer, what entered it, what left it, the last row of its attention)` -> a score for each live row, or
            None where the layer has none to give; a stage goes by the last one given. Before all layers the layer is
            None.
        kept: after -> the original indices of the prompt's rows that survived; filled when first known.
        skipped: layers that the prompt's image passes by.
        written: layers in which image rows are not updated: the layer runs for all rows, and what it makes of the image
            is thrown away.
        turn: where the last turn of a chat begins, and after -> the earlier rows that an earlier turn left.
    """
    prompt = inputs["input_ids"].shape[1]
    whole = extended(inputs, more)
    target = Target(model)
    given, text = entering(model, whole), target.text
    x, visual = given["inputs_embeds"], whole["input_ids"][0] == IMAGE
    rotary, plain = positions_of(given, len(visual))
    tables = text.rotary_emb(x, rotary) if hasattr(text, "rotary_emb") else None
    deep = given.get("deepstack_visual_embeds") or []
    live, score = torch.arange(len(visual)), read(None, x, x, None)
    for l, layer in enumerate(target.layers):
        if l in stages:
            if l not in kept:
                score = torch.zeros(len(live)) if score is None else score
                candidates, count = visual & (torch.arange(len(visual)) >= turn[0]), int(visual[turn[0] :].sum())
                chosen = live[best(score, candidates[live], int(stages[l] * count + 1e-6))]
                kept[l] = chosen[(chosen >= turn[0]) | torch.isin(chosen, turn[1].get(l, chosen))]
            stay = torch.isin(live, kept[l]) | (live >= prompt)
            x, live = x[:, stay], live[stay]
            score = None if score is None else score[stay]
        runs = ~visual[live] if l in skipped else torch.ones(len(live), dtype=torch.bool)
        handed: dict[str, Any] = {"attention_mask": None, "position_ids": plain[:, live[runs]]}
        if target.blocks[l].sees == "all":
            handed["attention_mask"] = triangle(text, int(runs.sum()))
        if tables is not None:
            handed["position_embeddings"] = tuple(table[:, live[runs]] for table in tables)
        entered, x = x, x.clone()
        x[:, runs], row = run(layer, target.mixers[l], entered[:, runs], handed)
        if l in written:
            x[:, visual[live]] = entered[:, visual[live]]
        if l < len(deep):
            features = torch.zeros(len(visual), x.shape[-1])
            features[visual] = deep[l]
            x = x + features[live]
        scored = read(layer, entered, x, row)
        score = score if scored is None else scored
    head = model.get_output_embeddings() or model.language_model.lm_head
    return head(target.norm(x))[0, -1]


def extended(inputs: Mapping[str, Tensor], more: list[int]) -> dict[str, Tensor]:
    """The prompt with tokens behind it."""
    whole, new = dict(inputs), torch.tensor([more], dtype=torch.int64)
    whole["input_ids"] = torch.cat([inputs["input_ids"], new], 1)
    for key, value in (("attention_mask", 1), ("mm_token_type_ids", 0)):
        if key in whole:
            whole[key] = torch.cat([whole[key], torch.full_like(new, value)], 1)
    return whole


def run(layer: Any, mixer: Any, x: Tensor, handed: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
    """A layer, and the last row of its attention where eager attention gives it."""
    rows: list[Tensor] = []

    def catch(module: Any, args: Any, output: Any) -> None:
        if isinstance(output, tuple) and output[1] is not None:
            rows.append(output[1][0, :, -1].mean(0))

    handle = mixer.register_forward_hook(catch)
    try:
        out = layer(x, cache=None, **handed)
        return out[0] if isinstance(out, tuple) else out, rows[0] if rows else None
    finally:
        handle.remove()


def triangle(text: Any, n: int) -> Tensor | None:
    """What eager attention takes; sdpa is causal without."""
    if text.config._attn_implementation != "eager":
        return None
    return torch.full((n, n), torch.finfo(torch.float32).min).triu(1)[None, None]


def best(score: Tensor, visual: Tensor, count: int) -> Tensor:
    """Rows that survive: all text and the `count` best visual ones, ties to the lower index."""
    places = visual.nonzero()[:, 0]
    order = torch.sort(score[places], descending=True, stable=True).indices
    stay = ~visual
    stay[places[order[:count]]] = True
    return stay


def greedy(
    model: Any,
    inputs: Mapping[str, Tensor],
    stages: Mapping[int, float],
    read: Read,
    tokens: int,
    skipped: Collection[int] = (),
    written: Collection[int] = (),
) -> tuple[list[int], Tensor, dict[int, list[int]]]:
    """Tokens, their logits, and the visual rows that each stage kept."""
    more: list[int] = []
    steps: list[Tensor] = []
    kept: dict[int, Tensor] = {}
    for _ in range(tokens):
        steps.append(logits(model, inputs, more, stages, read, kept, skipped=skipped, written=written))
        allowed = steps[-1].clone()
        allowed[IMAGE] = -torch.inf  # a recomputation would take it for a picture
        more.append(int(allowed.argmax()))
    visual = (inputs["input_ids"][0] == IMAGE).nonzero()[:, 0]
    return more, torch.stack(steps), {l: rows[torch.isin(rows, visual)].tolist() for l, rows in kept.items()}


def loudness(layer: Any, entered: Tensor, left: Tensor, row: Tensor | None) -> Tensor | None:
    """The norm of what enters a stage."""
    return left[0].norm(dim=-1)


def last_attention(layer: Any, entered: Tensor, left: Tensor, row: Tensor | None) -> Tensor | None:
    """What the last row pays."""
    return row


def write_strength(layer: Any, entered: Tensor, left: Tensor, row: Tensor | None) -> Tensor | None:
    """beta of gated DeltaNet, dt of Mamba-2, by their formulas; None from other layers."""
    parts = {} if layer is None else dict(layer.named_children())
    mamba = parts.get("mamba")
    if mamba is not None:
        hidden = layer.input_layernorm(entered)
        if type(mamba).__name__ == "JambaMambaMixer":
            x = mamba.in_proj(hidden)[..., : mamba.intermediate_size].transpose(1, 2)
            u = torch.nn.functional.silu(mamba.conv1d(x)[..., : x.shape[-1]]).transpose(1, 2)
            dt = mamba.dt_proj(mamba.dt_layernorm(mamba.x_proj(u)[..., : mamba.time_step_rank]))[0]
        else:
            dt = mamba.in_proj(hidden)[0, :, -mamba.num_heads :] + mamba.dt_bias
        return torch.log1p(torch.exp(dt)).mean(-1)
    if "linear_attn" in parts and "in_proj_ba" in dict(parts["linear_attn"].named_children()):
        mixer = parts["linear_attn"]
        wide = mixer.in_proj_ba(layer.input_layernorm(entered))[0].unflatten(-1, (mixer.num_k_heads, -1))
        return torch.sigmoid(wide[..., : wide.shape[-1] // 2]).mean((-1, -2))
    if "linear_attn" in parts:
        gate = layer.input_layernorm(entered) @ parts["linear_attn"].in_proj_b.weight.T
        return (1 / (1 + torch.exp(-gate)))[0].mean(-1)
    mixer = parts.get("mixer")
    if mixer is not None and type(mixer).__name__ == "NemotronHMamba2Mixer":
        dt = mixer.in_proj(layer.norm(entered))[0, :, -mixer.num_heads :] + mixer.dt_bias
        return torch.log1p(torch.exp(dt)).clamp(min=mixer.config.time_step_min).mean(-1)
    return None
