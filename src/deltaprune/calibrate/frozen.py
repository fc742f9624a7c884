"""A plan with the order of `Freeze`: the search over layers, then over fewer rows, taken up again where it broke off.

asked = asked_together(model, processor, [(picture, ["What colour is the sign?", "How many birds are there?"]), ...])
model.use_plan(with_freezing(model.config.plan, model, asked, budget=0.33))
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from deltaprune.calibrate.freezing import STORED, Found, order
from deltaprune.calibrate.in_place import FoundInPlace, order_in_place
from deltaprune.calibrate.own_answers import lesson
from deltaprune.calibrate.thinning import thin
from deltaprune.errors import UserError
from deltaprune.hosted.model import Hosted
from deltaprune.mllm.processor import Inputs, Processor
from deltaprune.plan import Change, Plan, Thinning
from deltaprune.vlm import VLM

PICTURES = 16  # that run at once


def check_budget(budget: float, name: str = "budget") -> None:
    """A share of the MACs, else a `UserError`."""
    if not 0 < budget < 1:
        raise UserError(f"{name} {budget:g} must be a share of the prefill's MACs between 0 and 1, such as 0.6.")


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
) -> Plan:
    """The plan with the order in which layers stop updating visual rows, and how rows are dropped as well.

    Args:
        plan: the model's plan without it.
        vlm: the model; no method acts on it here.
        asked: processor outputs, each some pictures with all questions about them, see `asked_together`.
        budget: share of the LM prefill's MACs at which the order ends.
        one_shot: rank layers by what each does alone, and try no fewer rows; for models on which a trial is dear.
        source: where the samples come from; written into the plan's `source`, plain JSON types.
        partial: a file in which the order is kept until the search ends; the same call goes on from it.
        say: told what is being done.

    Raises:
        UserError: a budget that is no share or out of reach, no samples, or one without a picture.
    """
    check_budget(budget)
    about = {"budget": budget, "one_shot": one_shot, "model": vlm.fingerprint, "samples": dict(source or {})}
    file = None if partial is None else Path(partial)
    known = [] if file is None else _known(file, about)
    say("answering without any change")
    lessons = [lesson(vlm, dict(inputs)) for inputs in asked]

    def told(found: Found) -> None:
        say(_reached(found))
        if file is not None:
            held = {**about, "changes": [list(change) for change in found.changes]}
            file.write_text(json.dumps(held), encoding="utf-8", newline="\n")

    say("freezing: trying each layer")
    found = order(vlm, lessons, budget, one_shot=one_shot, known=known, on_change=told)
    said = {"budget": budget, **(source or {}), **_search(found)}
    made = replace(
        plan, freezing=tuple(found.changes), source={**plan.source, "freezing": said}, thinning=(), means=found.means
    )
    if not one_shot:

        def thinned(best: Thinning) -> None:
            say(f"freezing: {best.changes} changes at {best.budget:g} of the MACs, JS {best.js:.2g}")

        say("freezing: trying fewer rows")
        made = replace(made, thinning=thin(vlm, made, lessons, budget, STORED, thinned))
    if file is not None:
        file.unlink(missing_ok=True)
    return made


def with_freezing_in_place(
    plan: Plan,
    vlm: Hosted,
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
