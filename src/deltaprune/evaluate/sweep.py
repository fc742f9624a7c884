"""Accuracy over cost: each method at several costs, all of them on the same questions.

swept = sweep(model, processor, "scenes", ["dtp", "dart", "freeze"], share=(0.4, 0.6, 0.8), limit=300, out="out/sweep")
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

from deltaprune.benchmarks import Benchmark, Sample
from deltaprune.calibrate.budget import askable, at_keep, budget, check_share
from deltaprune.calibrate.knobs import Sizes
from deltaprune.checks import check_keep
from deltaprune.errors import UserError
from deltaprune.evaluate.asked import check_model, find_benchmark
from deltaprune.evaluate.hosted import counted
from deltaprune.evaluate.results import MethodResult
from deltaprune.evaluate.run import evaluate
from deltaprune.evaluate.work import mean_text_tokens
from deltaprune.hosted.config import suited
from deltaprune.hosted.model import Hosted
from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM

PROMPTS = 256  # whose mean length stands for all
ALL = "all"


@dataclass(frozen=True)
class Sweep:
    """What a sweep gave.

    Attributes:
        rows: the unpruned model's first, then each method's points in the order asked for.
        left_out: the reason for each point that a method cannot reach.
    """

    rows: list[MethodResult]
    left_out: tuple[str, ...]


def sweep(
    vlm: VLM,
    processor: Processor,
    benchmark: Benchmark | str,
    methods: Sequence[str],
    keep: Sequence[float] = (),
    share: Sequence[float] = (),
    **how: Any,
) -> Sweep:
    """Evaluate each method at several costs; the same call with the same `out` resumes an interrupted one.

    Args:
        vlm, processor, benchmark: as for `evaluate`.
        methods: texts without what sets their cost, such as "dtp:late=none"; "none" is always among the rows. "all" is
            every method that a cost alone describes; of these, one that reaches no point is left out, too.
        keep: shares of the visual tokens. A method that is not set by a keep (Freeze, FitPrune, ShortV, VTW) is placed
            at the same shares of the MACs.
        share: shares of the LM prefill's MACs, in place of `keep`: every method spends the same.
        how: everything else as for `evaluate`: split, seed, limit, out, batch_size, engine, place, ...

    Raises:
        UserError: as for `evaluate`; neither keep nor share or both; a method that already says what it keeps, or
            that reaches none of the points.
    """
    check_model(vlm, processor)
    benchmark = find_benchmark(benchmark)
    asked = benchmark.samples(how.get("split") or benchmark.split, how.get("seed", 0), how.get("limit", 500))
    samples = list(islice(asked, PROMPTS))
    config, text_tokens = _sizes(vlm, processor, benchmark, samples) if samples else (vlm.config, 22)
    labels, left_out = points(config, methods, keep, share, text_tokens)
    return Sweep(evaluate(vlm, processor, benchmark, ["none", *labels], **how), left_out)


def _sizes(vlm: VLM, processor: Processor, benchmark: Benchmark, samples: Sequence[Sample]) -> tuple[Sizes, float]:
    """The model's sizes for pictures like these, and the mean text of a prompt."""
    if isinstance(vlm, Hosted):
        return counted(vlm, cast(Any, processor), benchmark.rules, samples)
    prompts = [processor.prompt(benchmark.rules.message(sample)) for sample in samples]
    return vlm.config, mean_text_tokens(processor, prompts)


def points(
    config: Sizes,
    methods: Sequence[str],
    keep: Sequence[float],
    share: Sequence[float],
    text_tokens: float,
) -> tuple[list[str], tuple[str, ...]]:
    """Each method's texts, what sets its cost filled in; and a sentence for each point that is out of reach.

    Args:
        config: the model's sizes.
        methods, keep, share: as for `sweep`.
        text_tokens: of a prompt, template included.
    """
    if bool(keep) == bool(share):
        raise UserError("A sweep is over shares of the tokens or over shares of the MACs: give either keep or share.")
    for value in keep:
        check_keep(value)
    for value in share:
        check_share("share", value)
    labels: dict[str, None] = {}
    left_out: list[str] = []
    every = suited(askable(config), config) if ALL in (text.strip() for text in methods) else []
    asked = [(each, text.strip() != ALL) for text in methods for each in (every if text.strip() == ALL else [text])]
    for text, named in asked:
        if text.strip() == "none":
            continue
        try:
            met, missed = _points_of(config, text, keep, share, text_tokens)
        except UserError as error:
            if named:
                raise
            met, missed = [], [str(error)]
        if not met and named:
            raise UserError(missed[0])
        labels |= dict.fromkeys(met)
        left_out += missed
    if not labels:
        raise UserError('There is no method to sweep: name at least one beside "none", such as "dtp".')
    return list(labels), tuple(left_out)


def _points_of(
    config: Sizes, text: str, keep: Sequence[float], share: Sequence[float], text_tokens: float
) -> tuple[list[str], list[str]]:
    """One method's texts, and why it lacks some."""
    met, missed = [], []
    at_keep(config, text, 1.0, text_tokens)  # a mistake in the text is no point out of reach
    for value in keep or share:
        try:
            if keep:
                met.append(at_keep(config, text, value, text_tokens))
            else:
                met.append(budget(config, text, value, text_tokens).label)
        except UserError as error:
            missed.append(str(error))
    return met, missed
