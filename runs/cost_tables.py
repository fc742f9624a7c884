"""FLOPs of the paper's Tables 1, 2 and 5 beside our closed form; needs no weights.

    python runs/cost_tables.py

Writes numbers/cost.md and numbers/cost.json. "FLOPs" in the paper are MACs of the LM's prefill (`--convention paper`).
The paper does not print the prompt's length: 22 and 5 text tokens are what fits.
"""

from dataclasses import asdict, dataclass

from deltaprune.cost import macs
from deltaprune.methods import parse
from deltaprune.models.cobra import COBRA
from deltaprune.models.robomamba import ROBOMAMBA
from provenance import footer, provenance, publish

MODELS = {"cobra": (COBRA, 22), "robomamba": (ROBOMAMBA, 5)}
MISPRINT = "a misprint: Table 1 prints 0.97 for the same setting and the same accuracies"


@dataclass(frozen=True)
class Printed:
    """A row of the paper.

    Attributes:
        table: of the paper; the DART rows are in Table 1 of its poster only.
        model, method: in our words.
        tera: printed FLOPs, in T.
        percent: printed FLOPs ratio; Table 5's is to its own first row.
        note: what to know about the printed value.
    """

    table: str
    model: str
    method: str
    tera: float
    percent: int
    note: str = ""


PAPER = (
    Printed("1", "cobra", "none", 2.01, 100),
    Printed("1", "cobra", "fastv:keep=0.7", 1.45, 72),
    Printed("1", "cobra", "vtw:after=45", 1.43, 71),
    Printed("1 (poster)", "cobra", "dart:keep=0.66", 1.38, 69),
    Printed("1", "cobra", "dtp:keep=0.9", 1.35, 67),
    Printed("1", "cobra", "fastv:keep=0.5", 1.06, 53),
    Printed("1", "cobra", "vtw:after=32", 1.04, 52),
    Printed("1 (poster)", "cobra", "dart:keep=0.44", 0.96, 48),
    Printed("1", "cobra", "dtp:keep=0.5", 0.97, 48),
    Printed("2", "robomamba", "none", 0.70, 100),
    Printed("2", "robomamba", "fastv:keep=0.7", 0.50, 71),
    Printed("2", "robomamba", "vtw:after=45", 0.50, 71),
    Printed("2", "robomamba", "dtp:keep=0.9", 0.46, 66),
    Printed("2", "robomamba", "fastv:keep=0.5", 0.37, 53),
    Printed("2", "robomamba", "vtw:after=32", 0.36, 51),
    Printed("2", "robomamba", "dtp:keep=0.5", 0.34, 49),
    Printed("5", "cobra", "dtp:keep=0.5,late=none", 1.26, 100),
    Printed("5", "cobra", "dtp:keep=0.5", 1.04, 83, MISPRINT),
    Printed("5", "robomamba", "dtp:keep=0.5,late=none", 0.44, 100),
    Printed("5", "robomamba", "dtp:keep=0.5", 0.34, 77),
)


def ours(row: Printed) -> tuple[float, float]:
    """Our T and percent for a row; in Table 5 percent of `late=none`, else of no pruning."""
    config, text_tokens = MODELS[row.model]
    base = "dtp:keep=0.5,late=none" if row.table == "5" else "none"
    total, whole = (macs(config, parse(method), text_tokens, "paper").total for method in (row.method, base))
    return total / 1e12, 100 * total / whole


def line(row: Printed) -> str:
    """One row of the Markdown table."""
    tera, percent = ours(row)
    mark = " *" if row.note else ""
    return (
        f"| {row.table} | {row.model} | `{row.method}` | {tera:.4f} | {row.tera:.2f}{mark} | {tera - row.tera:+.4f} | "
        f"{percent:.1f} | {row.percent}{mark} |"
    )


def page(source: dict[str, str]) -> str:
    """numbers/cost.md."""
    prompts = " and ".join(f"{text_tokens} text tokens for {name}" for name, (_, text_tokens) in MODELS.items())
    head = "| table | model | method | ours, T | paper, T | difference | ours, % | paper, % |"
    notes = [f"\\* {row.note}." for row in PAPER if row.note]
    lines = [
        "# Cost: the paper's Tables 1, 2 and 5",
        "",
        f"MACs of the LM's prefill (`deltaprune cost --convention paper`; the paper calls them FLOPs), {prompts}.",
        "Percent: of no pruning; in Table 5 of `late=none`.",
        "",
        head,
        "|---|---|---|---:|---:|---:|---:|---:|",
        *map(line, PAPER),
        "",
        *notes,
        "",
    ]
    return "\n".join(lines) + "\n" + footer(source)


def document(source: dict[str, str]) -> dict[str, object]:
    """numbers/cost.json."""
    rows = [{**asdict(row), "ours_tera": ours(row)[0], "ours_percent": ours(row)[1]} for row in PAPER]
    text_tokens = {name: tokens for name, (_, tokens) in MODELS.items()}
    return {"provenance": source, "convention": "paper", "text_tokens": text_tokens, "rows": rows}


if __name__ == "__main__":
    made = provenance()
    publish("cost", document(made), page(made))
