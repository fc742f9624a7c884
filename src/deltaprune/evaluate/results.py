"""The results of an evaluation: a `Record` for each answer, a `MethodResult` for each method."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Record:
    """One answer.

    Attributes:
        id, image_id, question, answer, skill: the sample's.
        prediction: what the model said.
        correct: the protocol's grade, in [0, 1].
        choices: under a first-token protocol, each choice's probability.
    """

    id: str
    image_id: str
    question: str
    answer: str
    prediction: str
    skill: str
    correct: float
    choices: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodResult:
    """One method's result; percentages unless said otherwise.

    Attributes:
        model, benchmark: by name.
        method: as it was asked for where that was a text, else its `repr`.
        protocol: whose rules for prompt, decoding and grade.
        n, seed: how many questions of the split, and its seed.
        partial: whether these are fewer questions than the split has, also because some failed.
        mean: the protocol's headline.
        by_skill: its parts.
        metrics: whatever else the protocol reports.
        floor, floor_by_skill: what the commonest answer of each skill scores on the same questions.
        agreement: answers equal to the unpruned model's, right or wrong.
        macs_share: the LM prefill's MACs under this method over those without pruning, a fraction.
        text_tokens: mean text tokens per prompt, template included, for which `macs_share` is meant.
        kept: visual tokens left after each stage.
        ms: mean milliseconds per question (the picture's share included); 0 when all answers came from the folder.
        errors: how many questions failed; they are not among the n.
        failed: the failed questions, and why; not part of the JSON row.
        records: every answer, in the order of the questions; not part of the JSON row.
        split: of the benchmark; "" where it is not known.
        total: how many questions the split has; None for an endless stream.
        note: what a reader has to know about the questions, such as "without OCR tokens"; else "".
    """

    model: str
    benchmark: str
    method: str
    protocol: str
    n: int
    seed: int
    partial: bool
    mean: float
    by_skill: Mapping[str, float]
    metrics: Mapping[str, float]
    floor: float
    floor_by_skill: Mapping[str, float]
    agreement: float
    macs_share: float
    text_tokens: float
    kept: tuple[int, ...]
    ms: float = field(compare=False)
    errors: int
    failed: Mapping[str, str] = field(repr=False)
    records: tuple[Record, ...] = field(repr=False)
    split: str = ""
    total: int | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The JSON row: everything but the single answers; `kept` is null where nothing is pruned."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("failed", "records")}
        return values | {"kept": list(self.kept) or None}
