"""The time of a prefill and of a decoded token on a transformers model, for several methods in turn.

The methods take turns, so that a slow minute of the machine affects all alike; times are those of transformers' own
`generate`, hooks included.
"""

from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from deltaprune.cost.hosted import hosted_share
from deltaprune.cost.timing import forget_peak, peak_bytes, spread, unmeasured
from deltaprune.errors import UserError
from deltaprune.hosted.config import about_images
from deltaprune.hosted.model import Hosted
from deltaprune.hosted.processor import HostedProcessor
from deltaprune.mllm.processor import Inputs
from deltaprune.steps import Method

SIDE = 448  # pixels of the picture's side
WORDS = "word "


def hosted_bench(
    vlm: Hosted,
    processor: HostedProcessor,
    methods: Mapping[str, Method],
    text_tokens: int = 22,
    batch: int = 1,
    rounds: int = 5,
    new_tokens: int = 4,
    on_round: Callable[[int, int], None] | None = None,
    side: int = SIDE,
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Time every method on the same prompts: a picture of noise and a text of about so many tokens.

    Args:
        vlm, processor: what `load` gave; random weights will do.
        methods: label -> method.
        text_tokens: of each prompt, template included; the least that the template allows, if that is more.
        batch: prompts at once.
        rounds: measured ones; one more warms up.
        new_tokens: how many are decoded after the first for `decode_ms`.
        on_round: called with (done, total).
        side: of the picture, pixels.

    Returns:
        JSON rows, one for each method: `tokens` of a prompt (`visual_tokens` of them visual), `vision_ms` (all before
        the text model), `prefill_ms`, `decode_ms` (one token), `total_ms`, `macs_share`, `peak_bytes` (weights
        included; CPU: of the whole process) and `spread`; and the ratios of the prefill to the first method's.

    Raises:
        UserError: a count below 1, or a method that does not fit.
    """
    for name, value in (("text_tokens", text_tokens), ("batch", batch), ("rounds", rounds), ("new_tokens", new_tokens)):
        if value < 1:
            raise UserError(f"{name}={value} must be at least 1.")
    inputs = prompt(vlm, processor, text_tokens, batch, side)
    times: dict[str, list[dict[str, float]]] = {label: [] for label in methods}
    peaks, kept = dict.fromkeys(methods, 0), dict[str, list[int]]()
    first = unmeasured(vlm.device)
    for i in range(first + rounds):
        for label, method in methods.items():
            forget_peak(vlm.device)
            answer = vlm.answer(inputs, new_tokens + 1, method=method, least=new_tokens + 1)
            peaks[label] = max(peaks[label], peak_bytes(vlm.device))
            kept[label] = [stage.counts[0] for stage in answer.kept]
            ms = dict(answer.ms)
            ms["total"] = sum(ms.values())
            ms["decode"] /= new_tokens
            times[label] += [ms] if i >= first else []
        if on_round:
            on_round(i + 1, first + rounds)
    rows = [
        {
            **_row(vlm, inputs, method, times[label]),
            "method": label,
            "kept": kept[label] or None,
            "peak_bytes": peaks[label],
        }
        for label, method in methods.items()
    ]
    return rows, _ratios(times)


def prompt(vlm: Hosted, processor: HostedProcessor, text_tokens: int, batch: int, side: int) -> Inputs:
    """So many prompts of noise and words; the text is made as long as asked for, within the length of a word."""
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)

    def text_of(n: int) -> tuple[Inputs, int]:
        inputs = processor(images=[picture] * batch, text=[(WORDS * n).strip()] * batch)
        ids = inputs["input_ids"][0]
        return inputs, len(ids) - int(vlm.is_visual(ids).sum())

    inputs, least = text_of(1)
    each = text_of(2)[1] - least
    return text_of(1 + max(0, text_tokens - least) // max(1, each))[0] if least < text_tokens else inputs


def _row(vlm: Hosted, inputs: Inputs, method: Method, times: list[dict[str, float]]) -> dict[str, Any]:
    """Medians and spreads of one method's rounds."""
    columns = {part: [each[part] for each in times] for part in ("vision", "prefill", "decode", "total")}
    batch, tokens = inputs["input_ids"].shape
    config = vlm.config.with_visual(int(vlm.is_visual(inputs["input_ids"][0]).sum()))
    return {
        "name": config.name,
        "method": "",
        "tokens": tokens,
        "batch": batch,
        "dtype": str(vlm.dtype).removeprefix("torch."),
        "device": vlm.device.type,
        "kernel": vlm.model.config._attn_implementation,
        **{f"{part}_ms": median(values) for part, values in columns.items()},
        "macs_share": hosted_share(config, method, tokens - config.n_visual),
        "spread": {part: spread(values) for part, values in columns.items()},
        **about_images(config, [method]),
    }


def _ratios(times: Mapping[str, list[dict[str, float]]]) -> dict[str, float]:
    """Medians of the ratios of the prefill within rounds, to the first method's."""
    first = next(iter(times))
    return {
        f"{label}/{first}": median(a["prefill"] / b["prefill"] for a, b in zip(rounds, times[first], strict=True))
        for label, rounds in times.items()
        if label != first
    }
