"""The results of an evaluation: a `Record` for each answer, a `MethodResult` for each method, a `Report` of all."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from deltaprune.benchmarks import Graded, Summary
from deltaprune.errors import UserError

if TYPE_CHECKING:
    import pandas


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
        method: as given if that was a text, else its `repr`.
        protocol: the rules for prompt, decoding and grade.
        n, seed: how many questions of the split, and its seed.
        partial: whether these are fewer questions than the split has, also because some failed.
        mean: the protocol's headline.
        by_skill: its parts.
        metrics: further numbers that the protocol reports.
        floor, floor_by_skill: the score of always giving each skill's commonest answer to the same questions.
        agreement: answers equal to the unpruned model's, right or wrong.
        macs_share: the LM prefill's MACs under this method over those without pruning, a fraction.
        text_tokens: mean text tokens per prompt, template included; `macs_share` is for this number.
        kept: visual tokens left after each stage.
        ms: mean milliseconds per question (the picture's share included); 0 when all answers came from the folder.
        errors: how many questions failed; they are not among the n.
        failed: the failed questions, and why; not part of the JSON row.
        records: every answer, in the order of the questions; not part of the JSON row.
        split: of the benchmark; "" where it is not known.
        total: how many questions the split has; None for an endless stream.
        note: anything special about the questions, such as "without OCR tokens"; else "".
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


class Report(list[MethodResult]):
    """The rows of an evaluation, in the order of the methods: a list, which can be turned into a table.

    Args:
        rows: one of each method.
        summary: the protocol's; None looks it up by the rows' benchmark and protocol.
    """

    def __init__(self, rows: Iterable[MethodResult] = (), summary: Callable[[Sequence[Graded]], Summary] | None = None):
        super().__init__(rows)
        self.summary = summary

    def document(self) -> dict[str, Any]:
        """Plain JSON: every row's fields, intervals, tests and the paper's numbers; see `report.document`."""
        from deltaprune.evaluate.report import document

        return document(self, self.summary)

    def to_pandas(self) -> "pandas.DataFrame":
        """A line for each method with the columns of `report.csv`; a number that does not exist is missing there too.

            report.to_pandas()[["method", "accuracy", "macs_share"]].to_latex(index=False)

        Raises:
            UserError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise UserError("to_pandas needs pandas, which is not installed: pip install pandas.") from error
        from deltaprune.evaluate.report import flat

        return pandas.DataFrame([flat(row) for row in self.document()["rows"]])
