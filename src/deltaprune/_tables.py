"""The tables that the commands print on stdout."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

Row = dict[str, Any]
UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"))


def show(table: Table) -> None:
    """Print a table on stdout: wrapped to a terminal, as wide as it needs to be in a pipe or a file."""
    console = Console()
    if not console.is_terminal:
        widest = Measurement.get(console, console.options.update(width=10_000), table).maximum
        console = Console(width=max(widest, 80))
    console.print(table)


def ask_table(rows: Sequence[Row], device: str) -> Table:
    """The unpruned and the pruned answer to each question, one below the other."""
    about = (
        f"kept: visual tokens after each stage · MACs: share of the LM prefill's without pruning · "
        f"ms on {device}: medians after a warm-up; vision is encoded once"
    )
    table = _table(
        about, "question", "method", "answer", right=("kept", "MACs", "vision ms", "prefill ms", "decode ms")
    )
    last = None
    for row in rows:
        if last is not None and row["question"] != last:
            table.add_section()
        times = [f"{row['ms'][part]:.1f}" for part in ("vision", "prefill", "decode")]
        question = "" if row["question"] == last else row["question"]
        cells = (question, row["method"], row["answer"], _kept(row["kept"]), _percent(row["macs_share"]))
        table.add_row(*map(_cell, (*cells, *times)))
        last = row["question"]
    return table


def cost_table(rows: Sequence[Row]) -> Table:
    """MACs by component, in the unit that the largest total asks for."""
    first = rows[0]
    largest = max(row["macs"]["total"] for row in rows)
    unit, letter = next(((unit, letter) for unit, letter in UNITS if largest >= 10 * unit), UNITS[-1])
    about = (
        f"{first['model']}: one image and {first['text_tokens']} text tokens, convention {first['convention']}, "
        f"in {letter}MACs ({unit:.0e} multiply-accumulates) · kept: visual tokens after each stage · "
        "share: of the LM prefill's MACs without pruning"
    ).replace("e+", "e")
    components = list(first["macs"])
    table = _table(about, "method", right=("kept", "share", *components))
    for row in rows:
        macs = [f"{row['macs'][name] / unit:,.3f}" for name in components]
        table.add_row(*map(_cell, (row["method"], _kept(row["kept"]), _percent(row["share"]), *macs)))
    return table


def evaluate_table(rows: Sequence[Row], split: str) -> Table:
    """Percent right by skill; the last line is what the commonest answer scores."""
    first = rows[0]
    about = (
        f"{first['model']} on {first['benchmark']}: percent right of {first['n']} questions, split {split}, seed "
        f"{first['seed']} · agreement: with the unpruned answers, percent · "
        "MACs: share of the LM prefill's without pruning"
    )
    skills = list(first["by_skill"])
    table = _table(about, "method", right=("mean", *skills, "agreement", "MACs"))
    for row in rows:
        right = [f"{x:.1f}" for x in (row["mean"], *(row["by_skill"][skill] for skill in skills), row["agreement"])]
        table.add_row(*map(_cell, (row["method"], *right, _percent(row["macs_share"]))))
    table.add_section()
    floor = [f"{x:.1f}" for x in (first["floor"], *(first["floor_by_skill"][skill] for skill in skills))]
    table.add_row(*map(_cell, ("(commonest answer)", *floor, "", "")))
    return table


def plan_table(model: str, plan: Row) -> Table:
    """Where to prune and why."""
    early, late = plan["early"], plan["late"]
    about = f"{model}: plan from {plan['source']['samples']} samples; use it as --method dtp:early={early},late={late}"
    table = _table(about, "stage", right=("after layer",))
    table.add_column("why", overflow="fold")
    for stage in ("early", "late"):
        table.add_row(*map(_cell, (stage, str(plan[stage]), plan["source"][stage])))
    return table


def _table(about: str, *left: str, right: Sequence[str]) -> Table:
    """An empty table: text columns, number columns, a line below that explains them."""
    table = Table(box=box.SIMPLE, caption=_cell(about), caption_justify="left", caption_style="dim")
    for name in left:
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _cell(text: str) -> Text:
    """Text as it is: no markup, and no control character reaches the terminal."""
    return Text("".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text))


def _kept(counts: Sequence[int]) -> str:
    return ", ".join(map(str, counts)) or "all"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
