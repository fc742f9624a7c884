"""The part of `deltaprune calibrate` that finds the order of `Freeze`, and takes an interrupted search up again."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltaprune.cli._progress import Working
from deltaprune.errors import UserError

if TYPE_CHECKING:
    from deltaprune.benchmarks import Benchmark, Sample
    from deltaprune.calibrate.freezing import Found
    from deltaprune.hosted.model import Hosted
    from deltaprune.mllm.processor import Inputs, Processor
    from deltaprune.plan import Plan, Thinning
    from deltaprune.vlm import VLM

PICTURES = 16  # that run at once


def check_budget(budget: float) -> None:
    """A share of the MACs, else a `UserError`."""
    if not 0 < budget < 1:
        raise UserError(f"--budget {budget:g} must be a share of the prefill's MACs between 0 and 1, such as 0.6.")


def with_freezing(
    plan: "Plan",
    vlm: "VLM",
    processor: "Processor",
    benchmark: "Benchmark",
    where: tuple[str, int, int],
    budget: float,
    one_shot: bool,
    out: str | None,
    working: Working,
) -> "Plan":
    """The plan with the order in which layers stop updating visual rows, down to a budget.

    Args:
        where: split, seed and number of pictures; every question about each is asked.
        one_shot: rank layers by what each does alone.
        out: of the plan; what is found is kept beside it until the search ends.
    """
    from deltaprune.calibrate.freezing import STORED, order
    from deltaprune.calibrate.own_answers import lesson
    from deltaprune.calibrate.thinning import thin

    about = {"budget": budget, "one_shot": one_shot, "model": vlm.fingerprint, "samples": [benchmark.name, *where]}
    partial = None if out is None else Path(f"{out}.partial")
    known = [] if partial is None else _known(partial, about)
    working.say("answering without any change")
    lessons = []
    pictures = _pictures(benchmark, *where)
    for i in range(0, len(pictures), PICTURES):
        working.count(i, len(pictures))
        lessons.append(lesson(vlm, _inputs(vlm, processor, benchmark, pictures[i : i + PICTURES])))

    def told(found: "Found") -> None:
        working.say(f"freezing: {len(found.changes)} changes, {found.shares[-1]:.3f} of the MACs")
        if partial is not None:
            held = {**about, "changes": [list(change) for change in found.changes]}
            partial.write_text(json.dumps(held), encoding="utf-8", newline="\n")

    working.say("freezing: trying each layer")
    found = order(vlm, lessons, budget, one_shot=one_shot, known=known, on_change=told)
    source: dict[str, Any] = {**plan.source, "freezing": _source(found, where, budget)}
    made = replace(plan, freezing=tuple(found.changes), source=source, means=found.means)
    if not one_shot:

        def thinned(best: "Thinning") -> None:
            working.say(f"freezing: {best.changes} changes at {best.budget:g} of the MACs, JS {best.js:.2g}")

        working.say("freezing: trying fewer rows")
        made = replace(made, thinning=thin(vlm, made, lessons, budget, STORED, thinned))
    if partial is not None:
        partial.unlink(missing_ok=True)
    return made


def _source(found: "Found", where: tuple[str, int, int], budget: float) -> dict[str, Any]:
    """What the plan says of the search."""
    return {
        "budget": budget,
        "split": where[0],
        "seed": where[1],
        "pictures": found.pictures,
        "questions": found.questions,
        "one_shot": found.one_shot,
        "evaluations": found.evaluations,
        "seconds": round(found.seconds, 1),
        "shares": [round(share, 4) for share in found.shares],
    }


def _known(partial: Path, about: dict[str, Any]) -> list[Any]:
    """The changes that an interrupted search with the same settings had found."""
    from deltaprune.plan import Change

    if not partial.exists():
        return []
    try:
        raw = json.loads(partial.read_text(encoding="utf-8"))
    except ValueError:
        return []
    changes = raw.pop("changes", [])
    return [Change(*each) for each in changes] if raw == json.loads(json.dumps(about)) else []


def with_hosted_freezing(
    plan: "Plan",
    vlm: "Hosted",
    processor: "Processor",
    benchmark: "Benchmark",
    where: tuple[str, int, int],
    budget: float,
    working: Working,
) -> "Plan":
    """The same on a model of transformers' own; takes what `with_freezing` takes."""
    from deltaprune.calibrate.in_place import FoundInPlace, order_in_place

    asked = [sample for picture in _pictures(benchmark, *where) for sample in picture]
    samples = [processor(images=sample.image, text=benchmark.rules.message(sample)).to(vlm.device) for sample in asked]

    def told(found: FoundInPlace) -> None:
        working.say(f"freezing: {len(found.changes)} changes, {found.shares[-1]:.3f} of the MACs")

    working.say("answering without any change")
    found = order_in_place(vlm.model, samples, budget, on_change=told)
    about = {
        "budget": budget,
        "shares": [float(f"{share:.4g}") for share in found.shares],
        "evaluations": found.evaluations,
        "seconds": round(found.seconds, 1),
        "questions": len(samples),
    }
    return replace(plan, freezing=tuple(found.changes), source={**plan.source, "freezing": about})


def _pictures(benchmark: "Benchmark", split: str, seed: int, n: int) -> "list[list[Sample]]":
    """Pictures with all their questions."""
    from itertools import groupby, islice

    about = groupby(benchmark.samples(split, seed), key=lambda sample: sample.image_id)
    return [list(questions) for _, questions in islice(about, n)]


def _inputs(
    vlm: "VLM", processor: "Processor", benchmark: "Benchmark", pictures: "Sequence[Sequence[Sample]]"
) -> "Inputs":
    """Some pictures and all questions about them, as the model takes them."""

    def each() -> "Iterator[tuple[int, Sample]]":
        return ((i, sample) for i, samples in enumerate(pictures) for sample in samples)

    return processor(
        images=[samples[0].image for samples in pictures],
        text=[benchmark.rules.message(sample) for _, sample in each()],
        image_index=[i for i, _ in each()],
    ).to(vlm.device)
