"""Many questions about one image: the image is run once, each question costs only its own rows, alone or batched."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor

from deltaprune.cost.rounds import prompts
from deltaprune.cost.timing import spread, timed, unmeasured
from deltaprune.cost.verify import verify_kernels
from deltaprune.errors import UserError
from deltaprune.prefill import prefill
from deltaprune.rows import Rows
from deltaprune.steps import Method, Step, side_of
from deltaprune.vlm import VLM


@torch.no_grad()
def questions(
    vlm: VLM,
    methods: Mapping[str, Method],
    counts: Sequence[int] = (1, 2, 4, 8, 16, 32),
    text_tokens: int = 22,
    rounds: int = 3,
    on_round: Callable[[int, int], None] | None = None,
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Time the LM's part of n questions about one image, whose visual tokens are given.

    Args:
        vlm: the model; random weights will do.
        methods: label -> method.
        counts: n, the questions.
        text_tokens: of each question.
        rounds: measured ones; one more warms up, on a GPU two.
        on_round: called with (done, total).

    Returns:
        JSON rows, one for each method and n: `full_ms` (n times one measured prefill of image and question),
        `prefix_ms` (the image alone), `each_ms` (one further question), `packed_ms` (all n as one packed batch); and
        ratios "label n": n full prefills over the image and the packed batch.

    Raises:
        KernelMismatch: the kernels disagree with their references; nothing is timed.
        UserError: a count below 1.
    """
    if min((*counts, text_tokens, rounds)) < 1:
        raise UserError(f"counts={tuple(counts)}, text_tokens={text_tokens} and rounds={rounds} must be at least 1.")
    dtype = vlm.model.lm.dtype
    kernels = verify_kernels(vlm.device, dtype)
    pixels, _ = prompts(vlm, 1, 1)
    ids = torch.randint(
        vlm.config.lm.vocab_size, (max(counts), text_tokens), generator=torch.Generator().manual_seed(0)
    )
    text = vlm.model.lm.embed(ids.to(vlm.device))
    steps = {label: method.checked_steps(vlm.shape) for label, method in methods.items()}
    visual = {label: vlm.model.encode(pixels, side_of(chosen))[0] for label, chosen in steps.items()}
    times: dict[str, list[dict[str, float]]] = {label: [] for label in methods}
    first = unmeasured(vlm.device)
    for i in range(first + rounds):
        for label in methods:
            measured = _round(vlm, steps[label], visual[label], text, counts)
            times[label] += [measured] if i >= first else []
        if on_round:
            on_round(i + 1, first + rounds)
    rows, ratios = [], {}
    for label, measured in times.items():
        for n in counts:
            columns = {part: [each[part] for each in measured] for part in ("full", "prefix", "each")}
            columns["packed"] = [each[f"packed {n}"] for each in measured]
            columns["full"] = [n * ms for ms in columns["full"]]
            ratios[f"{label} {n}"] = median(
                full / (prefix + packed)
                for full, prefix, packed in zip(*(columns[part] for part in ("full", "prefix", "packed")), strict=True)
            )
            rows.append(
                {
                    "name": vlm.config.name,
                    "method": label,
                    "tokens": vlm.config.n_visual + text_tokens,
                    "batch": n,
                    "questions": n,
                    "dtype": str(dtype).removeprefix("torch."),
                    "device": vlm.device.type,
                    "kernel": kernels["selective_scan"],
                    **{f"{part}_ms": median(values) for part, values in columns.items()},
                    "spread": {part: spread(values) for part, values in columns.items()},
                }
            )
    return rows, ratios


def _round(vlm: VLM, steps: tuple[Step, ...], visual: Tensor, text: Tensor, counts: Sequence[int]) -> dict[str, float]:
    """One method, once: milliseconds of a full prefill, of the image alone, of a question, and of each batch."""
    lm, device = vlm.model.lm, vlm.device
    whole = Rows.pack([visual], [text[0]])
    image = Rows.pack([visual], [visual[:0]])
    _, full = timed(lambda: prefill(lm, whole, steps), device)
    prefix, alone = timed(lambda: prefill(lm, image, steps, awaits_text=True), device)

    def ask(n: int) -> None:
        index = torch.zeros(n, dtype=torch.int64, device=device)
        prefill(lm, Rows.pack([visual[:0]] * n, list(text[:n])), steps, resume=prefix.repeat(index))

    measured = {"full": full, "prefix": alone, "each": timed(lambda: ask(1), device)[1]}
    for n in counts:
        measured[f"packed {n}"] = timed(lambda n=n: ask(n), device)[1]
    return measured
