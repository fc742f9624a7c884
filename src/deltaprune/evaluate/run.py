"""Evaluate methods on a benchmark: every method answers the same questions about the same pictures.

The unpruned model always answers too, because agreement is measured against it. With a folder, answers are written as
they come, and the same call resumes an interrupted one.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from deltaprune.benchmarks import Benchmark, FirstToken, Protocol, Sample
from deltaprune.errors import UserError
from deltaprune.evaluate.asked import check_method, check_model, check_numbers, find_benchmark, find_methods
from deltaprune.evaluate.decoding import first_ids
from deltaprune.evaluate.engines import Answers, Engine, Place
from deltaprune.evaluate.engines import registry as engines
from deltaprune.evaluate.hosted import HostedWorker, counted
from deltaprune.evaluate.recorders import Recorder, check_recorders, tell
from deltaprune.evaluate.results import Report
from deltaprune.evaluate.store import Key, Note, Store, prompt_hash
from deltaprune.evaluate.tally import Sheet, Tally
from deltaprune.evaluate.units import Done, Unit, group
from deltaprune.evaluate.work import Worker, mean_text_tokens
from deltaprune.hosted.model import Hosted
from deltaprune.methods.none import NoPruning
from deltaprune.mllm.processor import Processor
from deltaprune.steps import Method
from deltaprune.vlm import VLM

Progress = Callable[[int, int], None]


def evaluate(
    vlm: VLM,
    processor: Processor,
    benchmark: Benchmark | str,
    methods: Method | str | Sequence[Method | str],
    split: str | None = None,
    seed: int = 0,
    limit: int | None = 500,
    batch_size: int = 32,
    on_progress: Progress | None = None,
    max_new_tokens: int | None = None,
    out: str | Path | None = None,
    engine: str = "local",
    place: Place | None = None,
    prefix: bool = True,
    recorders: Sequence[Recorder] = (),
) -> Report:
    """Answer a benchmark with each method; rows come in the order of the methods.

        rows = evaluate(model, processor, "scenes", ["none", "dtp:keep=0.5"], limit=60)

    Args:
        vlm, processor: from `load`.
        benchmark: an object, or a name if it needs no files.
        methods: objects, or texts such as "dtp:keep=0.5".
        split, seed, limit: which samples; None is the benchmark's own split, and `limit` None the whole of it.
        batch_size: questions that run at once; it changes the time, not the answers.
        on_progress: called with the number of answers so far and in total.
        max_new_tokens: upper bound of an answer's length; None takes the protocol's.
        out: folder in which answers are stored; None keeps them in memory only.
        engine, place: where the work is done, "local" or "ray"; see `evaluate.engines`.
        prefix: run a picture once for all its questions; not possible with a transformers model.
        recorders: receive the rows at the end, see `evaluate.recorders`.

    Raises:
        UserError: not a model and its processor, no benchmark, no method or one given twice, no samples, samples that
            the protocol cannot grade, a method that does not fit the model, a number out of range, a folder that cannot
            be used, or no answer at all.
    """
    check_model(vlm, processor)
    benchmark, chosen = find_benchmark(benchmark), find_methods(methods)
    check_recorders(recorders)
    check_numbers(seed, limit=limit, batch_size=batch_size, max_new_tokens=max_new_tokens)
    for method in chosen.values():
        check_method(vlm, method)
    run_units, place = engines[engine], place or Place()
    split = split or benchmark.split
    samples = list(benchmark.samples(split, seed, limit))
    if not samples:
        raise UserError(f"Benchmark {benchmark.name!r} has no samples in split {split!r}: choose another split.")
    rules = _rules(benchmark, processor, max_new_tokens)
    rules.grade(samples[0], "")  # data that the protocol cannot grade is refused before hours of work
    named = {NoPruning(): "none"} | {method: label for label, method in reversed(chosen.items())}  # its first label
    sheets = {method: Sheet(method, named[method]) for method in (NoPruning(), *chosen.values())}
    worker = _worker(vlm, processor, rules, tuple(sheets), batch_size, prefix, engine)
    prompts = [processor.prompt(rules.message(sample)) for sample in samples]
    with contextlib.nullcontext() if out is None else Store(Path(out)) as store:
        keys = _keys(worker, benchmark, samples, prompts, torch.device(place.device or vlm.device).type)
        _recall(sheets.values(), store, keys)
        notes = {sample.id: partial(_note, benchmark, sample) for sample in samples}
        book = _Book(store, {key.id: key for key in keys}, notes, list(sheets.values()), on_progress)
        _run(worker, group(samples, batch_size), book, run_units, place)
    if isinstance(worker, HostedWorker):
        config, text_tokens = counted(worker.vlm, worker.processor, rules, samples)
    else:
        config, text_tokens = vlm.config, mean_text_tokens(processor, prompts)
    tally = Tally(config, benchmark, split, seed, samples, text_tokens, tuple(sheets.values()))
    report = Report((tally.row(label, sheets[method]) for label, method in chosen.items()), benchmark.rules.summary)
    tell(recorders, report)
    return report


def _worker(
    vlm: VLM,
    processor: Processor,
    rules: Protocol,
    methods: tuple[Method, ...],
    batch_size: int,
    prefix: bool,
    engine: str,
) -> Worker | HostedWorker:
    """What answers the questions; with a transformers model `prefix` has no effect."""
    if not isinstance(vlm, Hosted):
        return Worker(vlm, processor, rules, methods, batch_size, prefix)
    if engine != "local":
        raise UserError(
            f"{vlm.config.name} is a transformers model, which runs in one process only: take the engine 'local'."
        )
    return HostedWorker(vlm, cast(Any, processor), rules, methods, batch_size)


def _rules(benchmark: Benchmark, processor: Processor, max_new_tokens: int | None) -> Protocol:
    """The benchmark's protocol with the caller's limit; choices that the tokenizer lacks are refused at once."""
    rules = benchmark.rules
    if isinstance(rules.decoding, FirstToken):
        first_ids(processor, rules.decoding.choices)
        return rules
    if max_new_tokens is None:
        return rules
    return replace(rules, decoding=replace(rules.decoding, max_new_tokens=max_new_tokens))


def _keys(
    worker: Worker | HostedWorker, benchmark: Benchmark, samples: Sequence[Sample], prompts: Sequence[str], device: str
) -> list[Key]:
    """The key of each sample, without a method."""
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


@dataclass(frozen=True)
class _Book:
    """Where answers go: the folder, if there is one, and each method's sheet.

    Attributes:
        store: the folder, open.
        keys, notes: by a sample's id, what its answer depends on besides the method, and what is written with it.
        sheets: one for each method.
        on_progress: called with how many answers there are, and of how many.
    """

    store: Store | None
    keys: Mapping[str, Key]
    notes: Mapping[str, Callable[[str, str], Note]]
    sheets: Sequence[Sheet]
    on_progress: Progress | None

    def keep(self, done: Done) -> None:
        """Store one method's answers to one unit, in the folder first, then in the sheet; earlier answers are kept."""
        sheet = self.sheets[done.method]
        if self.store is not None:
            method = repr(sheet.method)
            timing = {"method": method, "questions": len(done.answers), "ms": done.ms}
            answers = {replace(self.keys[answer.id], method=method): answer for answer in done.answers}
            good = {key: answer for key, answer in answers.items() if answer.error is None}
            notes = {key: self.notes[answer.id](sheet.label, answer.prediction) for key, answer in good.items()}
            self.store.add(answers, notes, timing)
        for answer in done.answers:
            sheet.answers.setdefault(answer.id, answer)
        sheet.ms += done.ms
        sheet.timed += len(done.answers)

    def tell(self) -> None:
        """Report how far the run is."""
        if self.on_progress is not None:
            there = sum(len(sheet.answers) for sheet in self.sheets)
            self.on_progress(there, len(self.keys) * len(self.sheets))


def _note(benchmark: Benchmark, sample: Sample, method: str, prediction: str) -> Note:
    """What is written beside an answer."""
    grade = float(benchmark.rules.grade(sample, prediction))
    return Note(method, sample.image_id, sample.question, sample.answer, sample.skill, benchmark.protocol, grade)


def _run(
    worker: Worker | HostedWorker, groups: Iterator[tuple[Sample, ...]], book: _Book, engine: Engine, place: Place
) -> None:
    """Let the engine answer what is missing, and keep what comes back."""
    units = []
    for samples in groups:
        missing = (i for i, sheet in enumerate(book.sheets) if not all(s.id in sheet.answers for s in samples))
        units += [Unit(samples, pending)] if (pending := tuple(missing)) else []
    book.tell()
    with contextlib.closing(engine(cast(Answers, worker), units, place)) as results:
        for finished in results:
            for done in finished:
                book.keep(done)
            book.tell()
