"""The paper's accuracies as data: Tables 1 to 5, and the DART rows that only its poster has.

Its FLOPs are in `runs/cost_tables.py`. A number of ours is compared with one of these only where model, method,
benchmark and harness are the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from deltaprune.errors import UserError
from deltaprune.methods import parse
from deltaprune.models.cobra import COBRA
from deltaprune.models.robomamba import ROBOMAMBA

MODELS = {"cobra": COBRA, "robomamba": ROBOMAMBA}
HARNESS = {"cobra": ("cobra",), "robomamba": ("cobra", "robomamba")}
NOTES = {
    "cobra": (
        "The paper's unpruned row is the one of the Cobra paper, so its harness is Cobra's: protocol cobra, full "
        "splits, TextVQA with OCR tokens."
    ),
    "robomamba": (
        "The paper does not name the harness that scored RoboMamba. It is hardly RoboMamba's own, which has no VSR and "
        "under which the unpruned model scores 6 points more on GQA and 5 more on VQAv2."
    ),
}


@dataclass(frozen=True)
class Printed:
    """A row of the paper.

    Attributes:
        table: of the paper; "1 (poster)" is in its poster only.
        model, method: in our words.
        scores: percent, by benchmark.
        average: as printed; None where the table has none.
        note: what to know about the row.
    """

    table: str
    model: str
    method: str
    scores: Mapping[str, float]
    average: float | None = None
    note: str = ""

    @property
    def mean(self) -> float:
        """The mean of the row's scores; where it is not `average`, the paper has a misprint."""
        return sum(self.scores.values()) / len(self.scores)


DART = "DART's layer is not printed; the printed FLOPs fit layer 2 or 3."
REDUCED = "The paper does not say how channels (or states) become one number."
TABLE_1 = ("gqa", "vqav2", "textvqa", "pope", "vsr", "vizwiz")
TABLE_2 = ("okvqa", "gqa", "vqav2", "pope", "vsr")
COBRA_3 = ("gqa", "textvqa", "vizwiz")
ROBOMAMBA_3 = ("gqa", "pope", "okvqa")


def _main(table: str, method: str, *scores: float, note: str = "") -> Printed:
    """A row of Table 1 or 2; its last number is the average."""
    model, names = ("robomamba", TABLE_2) if table == "2" else ("cobra", TABLE_1)
    return Printed(table, model, method, dict(zip(names, scores[:-1], strict=True)), scores[-1], note)


def _ablation(table: str, method: str, *scores: float, note: str = "") -> tuple[Printed, Printed]:
    """A row of Tables 3 to 5: three numbers of Cobra, three of RoboMamba."""
    return (
        Printed(table, "cobra", method, dict(zip(COBRA_3, scores[:3], strict=True)), note=note),
        Printed(table, "robomamba", method, dict(zip(ROBOMAMBA_3, scores[3:], strict=True)), note=note),
    )


def _misprint(mean: float) -> str:
    return f"Misprinted average: the mean of the row is {mean}."


PAPER = (
    _main("1", "none", 62.3, 77.8, 58.2, 88.4, 58.4, 49.7, 65.8),
    _main("1", "fastv:keep=0.7", 62.1, 77.4, 56.9, 87.7, 58.0, 49.8, 65.3),
    _main("1", "vtw:after=45", 62.1, 77.7, 58.2, 88.3, 58.5, 49.5, 65.7),
    _main("1 (poster)", "dart:keep=0.66", 62.0, 77.1, 57.0, 87.4, 58.2, 49.7, 65.2, note=DART),
    _main("1", "dtp:keep=0.9", 62.0, 77.7, 57.9, 88.3, 58.9, 49.7, 65.8),
    _main("1", "fastv:keep=0.5", 61.7, 76.8, 55.0, 87.4, 57.3, 50.1, 64.7),
    _main("1", "vtw:after=32", 47.1, 54.1, 42.6, 74.1, 57.9, 48.5, 54.0),
    _main("1 (poster)", "dart:keep=0.44", 61.2, 76.1, 55.1, 86.3, 57.7, 49.5, 64.3, note=DART),
    _main("1", "dtp:keep=0.5", 61.4, 77.1, 56.1, 87.3, 57.9, 49.6, 64.9),
    _main("2", "none", 64.4, 56.4, 74.9, 85.2, 54.2, 67.6, note=_misprint(67.0)),
    _main("2", "fastv:keep=0.7", 64.1, 56.1, 74.4, 85.3, 53.0, 67.2, note=_misprint(66.6)),
    _main("2", "vtw:after=45", 64.0, 55.9, 74.7, 85.3, 53.3, 67.3, note=_misprint(66.6)),
    _main("2", "dtp:keep=0.9", 63.8, 56.1, 74.7, 85.2, 53.2, 67.3, note=_misprint(66.6)),
    _main("2", "fastv:keep=0.5", 63.4, 55.1, 73.4, 84.2, 52.1, 65.6),
    _main("2", "vtw:after=32", 40.0, 44.7, 55.2, 82.1, 45.2, 53.4),
    _main("2", "dtp:keep=0.5", 63.8, 54.9, 73.6, 84.4, 52.8, 65.9),
    *_ablation("3", "dtp:keep=0.5,score=output", 61.1, 48.0, 49.0, 54.5, 83.8, 63.8, note=REDUCED),
    *_ablation("3", "dtp:keep=0.5,score=input", 60.2, 47.4, 49.2, 54.2, 82.9, 62.6, note=REDUCED),
    *_ablation("3", "dtp:keep=0.5,score=readout", 58.9, 44.9, 49.6, 53.0, 81.6, 62.0, note=REDUCED),
    *_ablation("3", "dtp:keep=0.5", 61.4, 56.1, 49.6, 54.9, 84.4, 63.8),
    *_ablation("4", "dtp:keep=0.5,score=random", 61.4, 53.7, 49.4, 54.1, 83.6, 63.2),
    *_ablation("4", "dtp:keep=0.5,candidates=all", 7.01, 10.3, 30.7, 21.2, 56.8, 46.5),
    *_ablation("4", "dtp:keep=0.5", 61.4, 56.1, 49.6, 54.9, 84.4, 63.8),
    *_ablation("5", "dtp:keep=0.5,late=none", 61.5, 56.1, 49.6, 55.1, 84.4, 63.9),
    *_ablation("5", "dtp:keep=0.5", 61.4, 56.1, 49.6, 54.9, 84.4, 63.8),
)


def paper_number(model: str, method: str, benchmark: str, protocol: str, note: str = "") -> float | None:
    """The paper's accuracy in percent for a setting, None where it has none.

    Args:
        model: its configuration's name.
        method: a text or a `repr`. Methods that do the same match: "vtw:after=45" and "vtw" on Cobra. The model's
            plan is assumed to be the paper's (15 and 45).
        benchmark: by name.
        protocol: whose rules; only a harness that may have made the paper's number matches.
        note: the benchmark's; the paper's TextVQA is with OCR tokens, so one without them has no number.
    """
    if protocol not in HARNESS.get(model, ()) or (benchmark == "textvqa" and note):
        return None
    rows = (row for row in PAPER if row.model == model and benchmark in row.scores)
    return next((row.scores[benchmark] for row in rows if _same(model, row.method, method)), None)


def nearest_layer(after: int, n_layers: int) -> int:
    """After how many of `n_layers` layers lies the depth of one of the paper's settings, `after` of 64 layers."""
    return round(after * n_layers / COBRA.lm.n_layers)


def printed(model: str, method: str) -> Iterator[Printed]:
    """Every row of the paper about a method on a model."""
    return (row for row in PAPER if row.model == model and _same(model, row.method, method))


def _same(model: str, ours: str, theirs: str) -> bool:
    """Whether two methods prune the same way on a model; `ours` is a text, `theirs` a text or a `repr`."""
    asked, shape = parse(ours), MODELS[model].shape
    try:
        return asked.checked_steps(shape) == parse(theirs).checked_steps(shape)
    except UserError:
        return theirs == repr(asked)
