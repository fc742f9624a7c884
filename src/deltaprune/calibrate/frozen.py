"""A plan with the order of `Freeze`: the search over layers, then over fewer rows, taken up again where it broke off.

asked = asked_together(model, processor, [(picture, ["What colour is the sign?", "How many birds are there?"]), ...])
model.use_plan(with_freezing(model.config.plan, model, asked, budget=0.33))
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from math import inf
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, get_args

from PIL import Image
from torch import Tensor

from deltaprune.analysis.parts import Run, here
from deltaprune.calibrate.freezing import MODES, STORED, Found, order
from deltaprune.calibrate.in_place import FoundInPlace, order_in_place
from deltaprune.calibrate.one_shot import one_shot as ranked_alone
from deltaprune.calibrate.own_answers import lesson
from deltaprune.calibrate.thinning import thin
from deltaprune.cost.layer_times import layer_times
from deltaprune.errors import UserError, did_you_mean
from deltaprune.mllm.processor import Inputs, Processor
from deltaprune.plan import Change, LayerTimes, Plan, Thinning
from deltaprune.vlm import VLM

if TYPE_CHECKING:
    from deltaprune.hosted.model import Hosted

PICTURES = 16  # that run at once
Unit = Literal["macs", "ms"]


def check_budget(budget: float, unit: str = "macs", name: str = "budget") -> None:
    """A share of the MACs, or milliseconds above 0, else a `UserError`."""
    if unit not in get_args(Unit):
        raise UserError(f"There is no unit {unit!r} of a budget: {did_you_mean(unit, get_args(Unit))}.")
    if unit == "macs" and not 0 < budget < 1:
        nearest = budget / 100 if 2 <= budget < 100 else 0.99 if 1 <= budget < 2 else 0.6
        raise UserError(
            f"{name} {budget:g} must be a share of the prefill's MACs between 0 and 1, such as {nearest:g}."
        )
    if unit == "ms" and not 0 < budget < inf:
        raise UserError(f"{name} {budget:g} must be milliseconds of the prefill above 0, such as 5.")


def asked_together(
    vlm: VLM, processor: Processor, pictures: Iterable[tuple[Image.Image, Sequence[str]]]
) -> Iterator[Inputs]:
    """Some pictures at a time with all that is asked about each, as the model takes them.

    Args:
        vlm, processor: what `load` gave.
        pictures: each with its questions.
    """
    rest = iter(pictures)
    while some := list(islice(rest, PICTURES)):
        texts = [text for _, questions in some for text in questions]
        index = [i for i, (_, questions) in enumerate(some) for _ in questions]
        yield processor(images=[image for image, _ in some], text=texts, image_index=index).to(vlm.device)


def with_freezing(
    plan: Plan,
    vlm: VLM,
    asked: Iterable[Mapping[str, Tensor]],
    budget: float,
    one_shot: bool = False,
    source: Mapping[str, Any] | None = None,
    partial: str | Path | None = None,
    say: Callable[[str], None] = lambda _: None,
    unit: Unit = "macs",
    run: Run = here,
) -> Plan:
    """The plan with the order in which layers stop updating visual rows, and how rows are dropped as well.

    Args:
        plan: the model's plan without it.
        vlm: the model; its active method is ignored.
        asked: processor outputs, each some pictures with all questions about them, see `asked_together`.
        budget: share of the LM prefill's MACs at which the order ends, or milliseconds of it.
        one_shot: rank layers by what each does alone, and try no fewer rows; for models on which a trial is expensive.
        source: where the samples come from; written into the plan's `source`, plain JSON types.
        partial: a file in which the order is kept until the search ends; the same call goes on from it.
        say: called with a description of the current step.
        unit: of the budget. For "ms" layers are timed first, on this machine and for the samples' mean prompt; their
            times go into the plan.
        run: where `one_shot` tries each batch; the other search runs here.

    Raises:
        UserError: a budget that is none or out of reach, no samples, or one without a picture.
    """
    check_budget(budget, unit)
    batches = [dict(inputs) for inputs in asked]
    times = None
    if unit == "ms":
        say("timing layers")
        words = fmean(int(n) for inputs in batches for n in inputs["attention_mask"].sum(1))
        times = layer_times(vlm, round(words))
    said = {"budget": budget, "unit": unit, **(source or {})}
    if one_shot:
        say("freezing: trying each layer alone")
        trials = len(MODES) * vlm.shape.n_layers * len(batches)

        def counted(done: int) -> None:
            say(f"freezing: {done} of {trials} trials of a layer alone")

        return _with(plan, ranked_alone(vlm, batches, budget, times=times, run=run, on_trial=counted), said, times)
    about = {**said, "model": vlm.fingerprint, "questions": sum(len(inputs["input_ids"]) for inputs in batches)}
    file = None if partial is None else Path(partial)
    known = [] if file is None else _known(file, about)
    say("answering without any change")
    lessons = [lesson(vlm, inputs) for inputs in batches]

    def told(found: Found) -> None:
        say(_reached(found))
        if file is not None:
            held = {**about, "changes": [list(change) for change in found.changes]}
            file.write_text(json.dumps(held), encoding="utf-8", newline="\n")

    say("freezing: trying each layer")
    found = order(vlm, lessons, budget, times=times, known=known, on_change=told)
    made = _with(plan, found, said, times)

    def thinned(best: Thinning) -> None:
        say(f"freezing: {best.changes} changes at {best.budget:g} of the MACs, JS {best.js:.2g}")

    say("freezing: trying fewer rows")
    least = found.shares[-1] if found.shares and unit == "ms" else budget
    made = replace(made, thinning=thin(vlm, made, lessons, least, STORED, thinned))
    if file is not None:
        file.unlink(missing_ok=True)
    return made


def _with(plan: Plan, found: Found, said: Mapping[str, Any], times: LayerTimes | None) -> Plan:
    """The plan with an order, what the plan says of it, and the layer times by which it was found."""
    return replace(
        plan,
        freezing=tuple(found.changes),
        source={**plan.source, "freezing": {**said, **_search(found)}},
        thinning=(),
        means=found.means,
        times=times,
    )


def with_freezing_in_place(
    plan: Plan,
    vlm: "Hosted",
    samples: Sequence[Mapping[str, Any]],
    budget: float,
    say: Callable[[str], None] = lambda _: None,
) -> Plan:
    """The same on a model of transformers' own.

    Args:
        plan, budget, say: as for `with_freezing`.
        vlm: the model.
        samples: processor outputs, each a picture with one question.
    """
    check_budget(budget)
    say("answering without any change")

    def told(found: FoundInPlace) -> None:
        say(_reached(found))

    found = order_in_place(vlm.model, samples, budget, on_change=told)
    about = {
        "budget": budget,
        "shares": [float(f"{share:.4g}") for share in found.shares],
        "evaluations": found.evaluations,
        "seconds": round(found.seconds, 1),
        "questions": len(samples),
    }
    return replace(plan, freezing=tuple(found.changes), source={**plan.source, "freezing": about})


def _reached(found: Found | FoundInPlace) -> str:
    return f"freezing: {len(found.changes)} changes, {found.shares[-1]:.3f} of the MACs"


def _search(found: Found) -> dict[str, Any]:
    """What the plan says of the search."""
    return {
        "pictures": found.pictures,
        "questions": found.questions,
        "one_shot": found.one_shot,
        "evaluations": found.evaluations,
        "seconds": round(found.seconds, 1),
        "shares": [round(share, 4) for share in found.shares],
        **({"ms": [round(ms, 4) for ms in found.ms]} if found.ms else {}),
    }


def _known(partial: Path, about: Mapping[str, Any]) -> list[Change]:
    """The changes that an interrupted search with the same settings had found."""
    if not partial.exists():
        return []
    try:
        raw = json.loads(partial.read_text(encoding="utf-8"))
    except ValueError:
        return []
    changes = raw.pop("changes", [])
    return [Change(*each) for each in changes] if raw == json.loads(json.dumps(about)) else []
