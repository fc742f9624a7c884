"""What a prefill and a decoded token take on this machine, method beside method.

The runs alternate, so that a slow minute of the machine falls on all methods alike; ratios are taken within a round
and their median is reported. The prompt is an image of random pixels and a text of random tokens: a dense
recurrence takes the same time whatever it reads.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor

from deltaprune._registry import UserError
from deltaprune.cost.timing import forget_peak, peak_bytes, timed, wait
from deltaprune.kernels import select
from deltaprune.prefill import Prefilled, prefill
from deltaprune.stages import Method, Reduce, Score, Selection, Stage
from deltaprune.tokens import Tokens, Trace
from deltaprune.vlm import VLM


@dataclass(frozen=True)
class BenchRow:
    """Medians over the rounds.

    Attributes:
        name: the model.
        method: as it was asked for.
        tokens: rows of one prompt before pruning.
        batch: prompts at once.
        dtype, device, kernel: of the weights; where; the scan's backend.
        vision_ms, prefill_ms: of the batch; decode_ms: of one token of the batch.
        choose_ms: scoring, selecting and gathering, part of the prefill; measured in runs of its own.
        peak_bytes: most memory during the rounds, weights included (CPU: of the whole process).
        spread: for each time, half the interquartile range over the median, a fraction.
    """

    name: str
    method: str
    tokens: int
    batch: int
    dtype: str
    device: str
    kernel: str
    vision_ms: float
    prefill_ms: float
    decode_ms: float
    choose_ms: float
    peak_bytes: int
    spread: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The JSON row."""
        return asdict(self)


@dataclass
class Round:
    """One method's times in one round, milliseconds."""

    vision: float
    prefill: float
    decode: float
    choose: float


def bench(
    vlm: VLM,
    methods: Mapping[str, Method],
    text_tokens: int = 22,
    batch: int = 1,
    rounds: int = 5,
    new_tokens: int = 4,
    on_round: Callable[[int, int], None] | None = None,
) -> tuple[list[BenchRow], dict[str, float]]:
    """Time every method on the same prompts.

    Args:
        vlm: the model; random weights will do.
        methods: label -> method.
        text_tokens: of each prompt.
        batch: prompts at once, each with its own image.
        rounds: measured ones; one more warms up.
        new_tokens: how many are decoded for `decode_ms`.
        on_round: told (done, total).

    Returns:
        A row per method, and ratios of the prefill against the first method.
    """
    for name, value in (("text_tokens", text_tokens), ("batch", batch), ("rounds", rounds), ("new_tokens", new_tokens)):
        if value < 1:
            raise UserError(f"{name}={value} must be at least 1.")
    stages = {label: method.checked_stages(vlm.shape) for label, method in methods.items()}
    pixels, ids = prompts(vlm, batch, text_tokens)
    times: dict[str, list[Round]] = {label: [] for label in methods}
    peaks = dict.fromkeys(methods, 0)
    for i in range(rounds + 1):
        for label in methods:
            forget_peak(vlm.device)
            measured = _round(vlm, stages[label], pixels, ids, new_tokens)
            peaks[label] = max(peaks[label], peak_bytes(vlm.device))
            times[label] += [measured] if i else []  # the first round compiles and touches
        if on_round:
            on_round(i + 1, rounds + 1)
    first = next(iter(methods))
    ratios = {
        f"{label}/{first}": median(a.prefill / b.prefill for a, b in zip(times[label], times[first], strict=True))
        for label in methods
        if label != first
    }
    rows = [_row(vlm, label, times[label], peaks[label], batch, text_tokens) for label in methods]
    return rows, ratios


def prompts(vlm: VLM, batch: int, text_tokens: int) -> tuple[dict[str, Tensor], Tensor]:
    """Random pixels of each tower and random text ids, seed 0."""
    generator = torch.Generator().manual_seed(0)
    towers = vlm.config.towers.items()
    pixels = {n: torch.randn(batch, 3, t.image_size, t.image_size, generator=generator) for n, t in towers}
    ids = torch.randint(vlm.config.lm.vocab_size, (batch, text_tokens), generator=generator)
    return {name: value.to(vlm.device) for name, value in pixels.items()}, ids.to(vlm.device)


@torch.no_grad()
def _round(vlm: VLM, stages: tuple[Stage, ...], pixels: dict[str, Tensor], ids: Tensor, new_tokens: int) -> Round:
    """One method, once."""
    lm, device = vlm.model.lm, vlm.device
    visual, vision = timed(lambda: vlm.model.encode(pixels), device)
    text = lm.embed(ids)
    tokens = Tokens.pack(list(visual), list(text))
    prefilled, prefill_ms = timed(lambda: prefill(lm, tokens, stages), device)
    _, decode_ms = timed(lambda: _decode(vlm, prefilled, new_tokens), device)
    watch = Stopwatch(device)
    if stages:
        prefill(lm, tokens, tuple(watch.on(stage) for stage in stages))
    return Round(vision, prefill_ms, decode_ms / new_tokens, watch.ms)


def _decode(vlm: VLM, prefilled: Prefilled, new_tokens: int) -> None:
    """Decode exactly `new_tokens` tokens after the first, whatever they are."""
    ids = vlm.model.lm.logits(prefilled.hidden).argmax(-1)
    states = list(prefilled.states)
    for _ in range(new_tokens):
        logits, states = vlm.model.lm.step(ids, states)
        ids = logits.argmax(-1)


def _row(vlm: VLM, label: str, times: list[Round], peak: int, batch: int, text_tokens: int) -> BenchRow:
    """Medians and spreads of one method's rounds."""
    columns = {part: [getattr(each, part) for each in times] for part in ("vision", "prefill", "decode", "choose")}
    weight = vlm.model.lm.layers[0].mixer.in_proj.weight
    return BenchRow(
        name=vlm.config.name,
        method=label,
        tokens=vlm.config.n_visual + text_tokens,
        batch=batch,
        dtype=str(weight.dtype).removeprefix("torch."),
        device=vlm.device.type,
        kernel=select("deltaprune.kernels.selective_scan", vlm.device, dtype=weight.dtype).name,
        vision_ms=median(columns["vision"]),
        prefill_ms=median(columns["prefill"]),
        decode_ms=median(columns["decode"]),
        choose_ms=median(columns["choose"]),
        peak_bytes=peak,
        spread={part: spread(values) for part, values in columns.items() if part != "choose"},
    )


def spread(values: Sequence[float]) -> float:
    """Half the interquartile range over the median; 0 for fewer than two values."""
    if len(values) < 2:
        return 0.0
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return (high - low) / (2 * middle)


class Stopwatch:
    """Adds up the time from the call of a stage's score to the end of its reduction."""

    def __init__(self, device: torch.device):
        self.device, self.ms, self._begin = device, 0.0, 0.0

    def on(self, stage: Stage) -> Stage:
        """The same stage, timed; one that needs no score is left as it is."""
        if stage.score is None:
            return stage
        return replace(stage, score=_TimedScore(stage.score, self), reduce=_TimedReduce(stage.reduce, self))

    def start(self) -> None:
        """A score is about to be read."""
        wait(self.device)
        self._begin = time.perf_counter()

    def stop(self) -> None:
        """Its survivors stand."""
        wait(self.device)
        self.ms += 1000 * (time.perf_counter() - self._begin)


@dataclass(frozen=True)
class _TimedScore(Score):
    score: Score
    watch: Stopwatch

    @property
    def needs(self) -> frozenset[str]:
        return self.score.needs

    @property
    def sees_text(self) -> bool:
        return self.score.sees_text

    def __call__(self, tokens: Tokens, trace: Trace) -> Tensor:
        self.watch.start()
        return self.score(tokens, trace)


@dataclass(frozen=True)
class _TimedReduce(Reduce):
    reduce: Reduce
    watch: Stopwatch

    def __call__(self, tokens: Tokens, kept: Selection) -> Tokens:
        tokens = self.reduce(tokens, kept)
        self.watch.stop()
        return tokens
