"""The tables that the commands print on stdout."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console, ConsoleDimensions
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

Row = dict[str, Any]
UNITS = ((1e12, "T", "10^12"), (1e9, "G", "10^9"), (1e6, "M", "10^6"))
WRAPPED = {"answer", "why"}  # columns of free text; the cells of every other one stay whole
NARROW = 5  # letters of a folded heading


def show(*tables: Table) -> None:
    """Print tables on stdout: fitted to a terminal, as wide as they need to be in a pipe or a file.

    On a narrow terminal free text wraps and headings fold, but no number is cut: if that is not enough, lines run over.
    """
    console = Console()
    everything = console.options.update(width=10_000)
    least = max(80, *(Measurement.get(console, everything, table).maximum for table in tables))
    if console.is_terminal and console.width < least:
        for column in (column for table in tables for column in table.columns):
            column.width = column.min_width
        least = max(Measurement.get(console, everything, table).minimum for table in tables)
    console.size = ConsoleDimensions(max(console.width, least), console.height)
    for table in tables:
        console.print(table)


def ask_tables(rows: Sequence[Row], device: str) -> list[Table]:
    """A table for each question, the unpruned answer above the pruned one."""
    header = ["method", "answer", "kept", "MACs", "vision", "prefill", "decode"]
    lines = [
        [row["method"], row["answer"], _kept(row["kept"]), _percent(row["macs_share"])]
        + [f"{row['ms'][part]:.1f}" for part in ("vision", "prefill", "decode")]
        for row in rows
    ]
    each = len({row["method"] for row in rows})
    tables = []
    for i in range(0, len(rows), each):
        table = _table("", header, lines, n_left=2, only=range(i, i + each))
        table.title, table.title_justify, table.title_style = _cell(rows[i]["question"]), "left", "bold"
        tables.append(table)
    tables[-1].caption = _cell(
        "kept: visual tokens after each stage · MACs: share of the LM prefill's without pruning · "
        f"vision, prefill, decode: ms on {device}, medians after a warm-up; vision is encoded once"
    )
    return tables


def cost_table(rows: Sequence[Row], flops: bool = False) -> Table:
    """MACs (or FLOPs) by component, in the unit that the largest total asks for; the last line is a decoded token."""
    first, count = rows[0], "flops" if flops else "macs"
    unit, letter, power = _unit(rows, count)
    name, meaning = ("FLOPs", "operations, 2 for each MAC") if flops else ("MACs", "multiply-accumulates")
    about = (
        f"{first['model']}: one image and {first['text_tokens']} text tokens, convention {first['convention']}, "
        f"in {letter}{name} ({power} {meaning}) · kept: visual tokens after each stage · "
        "share: of the LM prefill's MACs without pruning · decode: each further token of the answer, under any method"
    )
    components = list(first[count])

    def cells(counts: Row) -> list[str]:
        return [f"{counts[name] / unit:,.3f}" for name in components]

    lines = [[row["method"], _kept(row["kept"]), _percent(row["share"]), *cells(row[count])] for row in rows]
    decode = ["(decode)", "", "", *cells(first[f"decode_{count}"])]
    return _table(about, ["method", "kept", "share", *components], [*lines, None, decode])


def budget_table(rows: Sequence[Row]) -> Table:
    """The methods that meet a budget, as they are asked for."""
    first = rows[0]
    unit, letter, power = _unit(rows, "macs")
    about = (
        f"{first['model']}: at most {_percent(first['budget'])} of the LM prefill's MACs without pruning (vtw: the "
        f"nearest layer), one image and {first['text_tokens']} text tokens · kept: visual tokens after each stage · "
        f"MACs: all of them, convention {first['convention']}, in {letter}MACs ({power} multiply-accumulates)"
    )
    lines = [
        [row["method"], _kept(row["kept"]), f"{100 * row['share']:.2f}%", f"{row['macs']['total'] / unit:,.3f}"]
        for row in rows
    ]
    return _table(about, ["method", "kept", "share", "MACs"], lines)


def evaluate_table(rows: Sequence[Row], split: str) -> Table:
    """Percent right by skill; the last line is what naming the commonest answer scores."""
    first = rows[0]
    of = f"PARTIAL: {first['n']} of {first['total']}" if first["partial"] else first["n"]
    note = f", {first['note']}" if first["note"] else ""
    about = (
        f"{first['model']} on {first['benchmark']}: percent right of {of} questions, split {split}, seed "
        f"{first['seed']}, protocol {first['protocol']}{note} · mean: the headline · "
        "agreement: with the unpruned answers · guessing: the commonest answer of each skill · "
        "MACs: share of the LM prefill's without pruning"
    )
    skills = list(first["by_skill"])
    lines: list[list[str] | None] = []
    for row in rows:
        right = [row["mean"], *(row["by_skill"][skill] for skill in skills), row["agreement"]]
        lines.append([row["method"], *(f"{x:.1f}" for x in right), _percent(row["macs_share"])])
    floor = [first["floor"], *(first["floor_by_skill"][skill] for skill in skills)]
    lines += [None, ["(guessing)", *(f"{x:.1f}" for x in floor), "", ""]]
    return _table(about, ["method", "mean", *skills, "agreement", "MACs"], lines)


def score_table(score: Row) -> Table:
    """Percent: the headline above its parts; further metrics stand beside what they are of."""
    graded = f"{score['n']:,} questions"
    if score["partial"]:
        graded = f"PARTIAL: {graded} (the files hold {score['questions']:,}), so this is not the benchmark's number"
    about = (
        f"{graded} · percent · rules: {score['source']}"
        f" ({'' if score['checked'] else 'not '}checked against that scorer's own output)"
    )
    if score["unknown"]:
        about += f" · answers to questions that are not there, passed over: {score['unknown']:,}"
    metrics = {name.rpartition("/")[::2]: f"{value:.2f}" for name, value in score["metrics"].items()}
    names = list(dict.fromkeys(name for _, name in metrics))

    def line(label: str, value: float, of: str) -> list[str]:
        return [label, f"{value:.2f}", *(metrics.get((of, name), "") for name in names)]

    parts = [line(skill, value, skill) for skill, value in score["by_skill"].items()]
    what = f"{score['benchmark']} {score['split']}, protocol {score['protocol']}"
    return _table(about, [what, "score", *names], [line("mean", score["mean"], ""), None, *parts])


def plan_table(model: str, plan: Row) -> Table:
    """Where to prune and why."""
    early, late, source = plan["early"], plan["late"], plan["source"]
    use = f"--method dtp:early={early},late={late}"
    about = f"{model}: from {source['samples']} pictures; use it as --plan FILE or as {use}"
    lines = [[stage, str(plan[stage]), source[stage]] for stage in ("early", "late")]
    if plan["withdrawal"] is not None:
        never = plan["withdrawal"] == plan["model"]["n_layers"]
        lines.append(["vtw", "never" if never else str(plan["withdrawal"]), source["withdrawal"]])
    return _table(about, ["stage", "after layer", "why"], lines, n_left=3)


def _table(
    about: str,
    header: Sequence[str],
    lines: Sequence[Sequence[str] | None],
    n_left: int = 1,
    only: Iterable[int] | None = None,
) -> Table:
    """A table with a line below that explains it.

    Args:
        about: the line below.
        header: the columns' names.
        lines: the cells; None draws a rule.
        n_left: how many columns hold text, aligned to the left; the others hold numbers.
        only: which of the lines are put in; all of them shape the columns.
    """
    table = Table(
        box=box.SIMPLE, padding=(0, 1, 0, 0), caption=_cell(about), caption_justify="left", caption_style="dim"
    )
    for i, name in enumerate(header):
        longest = max((len(line[i]) for line in lines if line is not None), default=0)
        whole = None if name in WRAPPED else max(longest, NARROW)
        table.add_column(name, justify="left" if i < n_left else "right", overflow="fold", min_width=whole)
    for i in range(len(lines)) if only is None else only:
        line = lines[i]
        if line is None:
            table.add_section()
        else:
            table.add_row(*map(_cell, line))
    return table


def _cell(text: str) -> Text:
    """Text as it is: no markup, and no control character reaches the terminal."""
    return Text("".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text))


def _kept(counts: Sequence[int]) -> str:
    return ", ".join(map(str, counts)) or "all"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _unit(rows: Sequence[Row], count: str) -> tuple[float, str, str]:
    """The unit that leaves the largest total at least two digits before the point."""
    largest = max(row[count]["total"] for row in rows)
    return next((unit for unit in UNITS if largest >= 10 * unit[0]), UNITS[-1])
