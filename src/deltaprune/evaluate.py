"""Model x methods x benchmark -> one row per method: every method answers the same questions about the same pictures.

A picture is drawn and encoded once, for all its questions and all methods; the unpruned model always answers too,
because agreement is measured against it. Decoding is greedy, so the same call gives the same rows.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import groupby
from statistics import fmean
from typing import Any

import torch

from deltaprune._registry import UserError
from deltaprune.benchmarks import Benchmark, Sample
from deltaprune.cost import share_of
from deltaprune.generate import generate
from deltaprune.methods import parse
from deltaprune.methods.none import NoPruning
from deltaprune.models._processor import Inputs, Processor
from deltaprune.stages import Method
from deltaprune.tokens import Tokens
from deltaprune.vlm import VLM

MAX_NEW_TOKENS = 8


@dataclass(frozen=True)
class Record:
    """One answer.

    Attributes:
        id, question, answer, skill: the sample's.
        prediction: what the model said.
        correct: the benchmark's grade, in [0, 1].
    """

    id: str
    question: str
    answer: str
    prediction: str
    skill: str
    correct: float


@dataclass(frozen=True)
class Row:
    """One method's result; percentages unless said otherwise.

    Attributes:
        model, benchmark: by name.
        method: as it was asked for where that was a text, else its `repr`.
        n, seed: how many questions of the split, and its seed.
        mean: mean over skills of `by_skill`, so that every skill counts alike.
        floor, floor_by_skill: what the commonest answer of each skill scores on the same n questions, and its mean.
        agreement: answers equal to the unpruned model's, right or wrong.
        macs_share: the LM prefill's MACs under this method over those without pruning, a fraction.
        text_tokens: mean text tokens per prompt, template included, for which `macs_share` is meant.
        records: every answer, in the order of the questions; not part of the JSON row.
    """

    model: str
    benchmark: str
    method: str
    n: int
    seed: int
    mean: float
    by_skill: dict[str, float]
    floor: float
    floor_by_skill: dict[str, float]
    agreement: float
    macs_share: float
    text_tokens: float
    records: tuple[Record, ...] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The JSON row: everything but the records."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "records"}


def evaluate(
    vlm: VLM,
    processor: Processor,
    benchmark: Benchmark,
    methods: Sequence[Method | str],
    split: str = "test",
    seed: int = 0,
    limit: int | None = 500,
    batch_size: int = 32,
    on_progress: Callable[[int, int], None] | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> list[Row]:
    """Answer a benchmark with each method; rows stand in the order asked for.

    Args:
        vlm, processor: what `load` gave.
        benchmark: where samples, messages and grades come from.
        methods: objects, or texts such as "dtp:keep=0.5".
        split, seed, limit: which samples; `limit` counts questions, None takes the whole split.
        batch_size: questions that run at once; it changes the time, not the answers.
        on_progress: called with (answers given, answers in all) as they come.
        max_new_tokens: upper bound of an answer's length.

    Raises:
        UserError: no method, no samples, a method that does not fit the model, or a size below 1.
    """
    labels = [asked if isinstance(asked, str) else repr(asked) for asked in methods]
    chosen = [parse(asked) if isinstance(asked, str) else asked for asked in methods]
    _check(vlm, chosen, limit, batch_size)
    samples = deque(benchmark.samples(split, seed, limit))
    if not samples:
        raise UserError(f"Benchmark {benchmark.name!r} has no samples in split {split!r}: choose another split.")
    n = len(samples)
    floors = benchmark.floors(split, seed, n)
    records: dict[Method, list[Record]] = {method: [] for method in (NoPruning(), *chosen)}
    text_rows = 0
    for part, tokens in _questions(vlm, processor, benchmark, samples, batch_size):
        text_rows += sum(tokens.lengths) - sum(tokens.n_visual)
        for method, so_far in records.items():
            predictions = _answer(vlm, processor, method, tokens, max_new_tokens)
            so_far += [_record(benchmark, *pair) for pair in zip(part, predictions, strict=True)]
            if on_progress is not None:
                on_progress(sum(map(len, records.values())), n * len(records))
    unpruned, text_tokens = records[NoPruning()], text_rows / n
    return [
        Row(
            model=vlm.config.name,
            benchmark=benchmark.name,
            method=label,
            n=n,
            seed=seed,
            **_scores(records[method], unpruned),
            floor=fmean(floors.values()),
            floor_by_skill=floors,
            macs_share=share_of(vlm.config, method, text_tokens),
            text_tokens=text_tokens,
            records=tuple(records[method]),
        )
        for label, method in zip(labels, chosen, strict=True)
    ]


def _check(vlm: VLM, methods: Sequence[Method], limit: int | None, batch_size: int) -> None:
    """Every mistake that can be seen before the first picture is drawn."""
    if not methods:
        raise UserError('No method is asked for: name at least one, such as "dtp:keep=0.5".')
    for name, value in (("limit", limit), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise UserError(f"{name}={value} leaves nothing to do: it is at least 1.")
    for method in methods:
        method.checked_stages(vlm.shape)


def _batches(samples: deque[Sample], size: int) -> Iterator[list[Sample]]:
    """Whole pictures at a time: at most `size` questions, more only where a single picture has more.

    `samples` is emptied on the way, so that a drawn picture does not outlive its batch.
    """
    drained = (samples.popleft() for _ in range(len(samples)))
    batch: list[Sample] = []
    for _, about_one in groupby(drained, key=lambda sample: sample.image_id):
        picture = list(about_one)
        if batch and len(batch) + len(picture) > size:
            yield batch
            batch = []
        batch += picture
    yield batch


def _questions(
    vlm: VLM, processor: Processor, benchmark: Benchmark, samples: deque[Sample], size: int
) -> Iterator[tuple[list[Sample], Tokens]]:
    """Samples, at most `size` at a time, with their packed tokens; each picture is drawn and encoded once."""
    for batch in _batches(samples, size):
        pictures = [list(about_one) for _, about_one in groupby(batch, key=lambda sample: sample.image_id)]
        images = processor.encode_images([picture[0].image for picture in pictures]).to(vlm.device)
        visual = vlm.see(images)
        index = [i for i, picture in enumerate(pictures) for _ in picture]
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            text = processor.encode_text([benchmark.message(sample) for sample in part])
            about = torch.tensor(index[start : start + size])
            inputs = Inputs(**text, image_index=about, image_key=images["image_key"]).to(vlm.device)
            yield part, vlm.pack(inputs, visual)


def _answer(vlm: VLM, processor: Processor, method: Method, tokens: Tokens, max_new_tokens: int) -> list[str]:
    """One method's greedy answers."""
    with method(vlm):
        prefilled = vlm.prefill(tokens)
    return processor.batch_decode(generate(vlm.model.lm, prefilled, vlm.eos_id, max_new_tokens))


def _record(benchmark: Benchmark, sample: Sample, prediction: str) -> Record:
    """Grade one answer."""
    grade = benchmark.grade(sample, prediction)
    return Record(sample.id, sample.question, sample.answer, prediction, sample.skill, grade)


def _scores(records: list[Record], unpruned: list[Record]) -> dict[str, Any]:
    """`mean`, `by_skill` and `agreement`, in percent; skills in the order in which they first appear."""
    grades: dict[str, list[float]] = defaultdict(list)
    for record in records:
        grades[record.skill].append(record.correct)
    by_skill = {skill: 100 * fmean(each) for skill, each in grades.items()}
    same = [a.prediction == b.prediction for a, b in zip(records, unpruned, strict=True)]
    return {"mean": fmean(by_skill.values()), "by_skill": by_skill, "agreement": 100 * fmean(same)}
