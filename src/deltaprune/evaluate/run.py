"""Model x methods x benchmark -> one row per method: every method answers the same questions about the same pictures.

The unpruned model always answers too, because agreement is measured against it. With a folder, answers are kept as they
come, and the same call goes on where an earlier one was broken off.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from deltaprune._registry import UserError
from deltaprune.benchmarks import Benchmark, FirstToken, Protocol, Sample
from deltaprune.evaluate.engines import Engine, Place
from deltaprune.evaluate.engines import registry as engines
from deltaprune.evaluate.rows import Row
from deltaprune.evaluate.store import Key, Store, prompt_hash
from deltaprune.evaluate.tally import Sheet, Tally
from deltaprune.evaluate.work import Done, Unit, Worker, first_ids, group, mean_text_tokens
from deltaprune.methods import parse
from deltaprune.methods.none import NoPruning
from deltaprune.models._processor import Processor
from deltaprune.stages import Method
from deltaprune.vlm import VLM

Progress = Callable[[int, int], None]


def evaluate(
    vlm: VLM,
    processor: Processor,
    benchmark: Benchmark,
    methods: Sequence[Method | str],
    split: str | None = None,
    seed: int = 0,
    limit: int | None = 500,
    batch_size: int = 32,
    on_progress: Progress | None = None,
    max_new_tokens: int | None = None,
    out: Path | None = None,
    engine: str = "local",
    place: Place | None = None,
    prefix: bool = True,
) -> list[Row]:
    """Answer a benchmark with each method; rows stand in the order asked for.

    Args:
        vlm, processor: what `load` gave.
        benchmark: where samples, messages and grades come from.
        methods: objects, or texts such as "dtp:keep=0.5".
        split, seed, limit: which samples; None is the benchmark's own split, and `limit` None the whole of it.
        batch_size: questions that run at once; it changes the time, not the answers.
        on_progress: called with (answers there, answers in all) as they come.
        max_new_tokens: upper bound of an answer's length; None takes the protocol's.
        out: folder in which answers are kept; None keeps them in memory only.
        engine, place: where the work is done, "local" or "ray"; see `evaluate.engines`.
        prefix: run a picture once for all its questions.

    Raises:
        UserError: no method, no samples, samples that the protocol cannot grade, a method that does not fit the model,
            a size below 1, a folder that cannot be used, or no answer at all.
    """
    place = place or Place()
    split = split or benchmark.split
    labels = [asked if isinstance(asked, str) else repr(asked) for asked in methods]
    chosen = [parse(asked) if isinstance(asked, str) else asked for asked in methods]
    _check(vlm, chosen, limit, batch_size)
    samples = list(benchmark.samples(split, seed, limit))
    if not samples:
        raise UserError(f"Benchmark {benchmark.name!r} has no samples in split {split!r}: choose another split.")
    rules = _rules(benchmark, processor, max_new_tokens)
    rules.grade(samples[0], "")  # data that the protocol cannot grade are refused before hours of answers
    sheets = {method: Sheet(method) for method in (NoPruning(), *chosen)}
    worker = Worker(vlm, processor, rules, tuple(sheets), batch_size, prefix)
    prompts = [processor.prompt(rules.message(sample)) for sample in samples]
    with contextlib.nullcontext() if out is None else Store(out) as store:
        keys = _keys(worker, benchmark, samples, prompts, torch.device(place.device or vlm.device).type)
        _recall(sheets.values(), store, keys)
        _run(
            worker, group(samples, batch_size), store, keys, list(sheets.values()), engines[engine], place, on_progress
        )
    text_tokens = mean_text_tokens(processor, prompts)
    tally = Tally(vlm.config, benchmark, split, seed, samples, text_tokens, tuple(sheets.values()))
    return [tally.row(label, sheets[method]) for label, method in zip(labels, chosen, strict=True)]


def _rules(benchmark: Benchmark, processor: Processor, max_new_tokens: int | None) -> Protocol:
    """The benchmark's protocol, under the caller's limit; what the model cannot do is refused at once."""
    rules = benchmark.rules
    if isinstance(rules.decoding, FirstToken):
        first_ids(processor, rules.decoding.choices)
        return rules
    if max_new_tokens is None:
        return rules
    return replace(rules, decoding=replace(rules.decoding, max_new_tokens=max_new_tokens))


def _check(vlm: VLM, methods: Sequence[Method], limit: int | None, batch_size: int) -> None:
    """Every mistake that can be seen before the first picture is drawn."""
    if not methods:
        raise UserError('No method is asked for: name at least one, such as "dtp:keep=0.5".')
    for name, value in (("limit", limit), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise UserError(f"{name}={value} leaves nothing to do: it is at least 1.")
    for method in methods:
        method.checked_stages(vlm.shape)


def _keys(
    worker: Worker, benchmark: Benchmark, samples: Sequence[Sample], prompts: Sequence[str], device: str
) -> list[Key]:
    """Of each sample, with the method left open."""
    about = f"{benchmark.name} {benchmark.version}"
    model, decoding = worker.vlm.fingerprint, worker.rules.decoding
    return [
        Key(model, device, "", about, prompt_hash(sample.image_id, prompt, decoding), sample.id)
        for sample, prompt in zip(samples, prompts, strict=True)
    ]


def _recall(sheets: Iterable[Sheet], store: Store | None, keys: Sequence[Key]) -> None:
    """What the folder already holds."""
    if store is None:
        return
    for sheet in sheets:
        found = ((key.id, store.get(replace(key, method=repr(sheet.method)))) for key in keys)
        sheet.answers = {name: answer for name, answer in found if answer is not None}


def _run(
    worker: Worker,
    groups: Iterator[tuple[Sample, ...]],
    store: Store | None,
    keys: Sequence[Key],
    sheets: Sequence[Sheet],
    engine: Engine,
    place: Place,
    on_progress: Progress | None,
) -> None:
    """Let the engine answer what is missing, and keep what comes back."""
    units = []
    for samples in groups:
        missing = (i for i, sheet in enumerate(sheets) if not all(s.id in sheet.answers for s in samples))
        units += [Unit(samples, pending)] if (pending := tuple(missing)) else []
    of = {key.id: key for key in keys}
    total = len(keys) * len(sheets)

    def tell() -> None:
        if on_progress is not None:
            on_progress(sum(len(sheet.answers) for sheet in sheets), total)

    tell()
    with contextlib.closing(engine(worker, units, place)) as results:
        for finished in results:
            for done in finished:
                sheet = sheets[done.method]
                _keep(sheet, done, store, {a.id: replace(of[a.id], method=repr(sheet.method)) for a in done.answers})
            tell()


def _keep(sheet: Sheet, done: Done, store: Store | None, keys: dict[str, Key]) -> None:
    """One method's answers to one unit: into the folder first, then into the sheet; earlier answers stand."""
    if store is not None:
        timing = {"method": repr(sheet.method), "questions": len(done.answers), "ms": done.ms}
        store.add({keys[answer.id]: answer for answer in done.answers}, timing)
    for answer in done.answers:
        sheet.answers.setdefault(answer.id, answer)
    sheet.ms += done.ms
    sheet.timed += len(done.answers)
