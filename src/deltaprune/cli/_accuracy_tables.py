"""The tables of `evaluate`, `sweep` and `score`: percent right."""

from collections.abc import Sequence
from dataclasses import replace

from deltaprune.cli._grid import Grid
from deltaprune.cli._tables import JsonRow, percent, table


def evaluate_table(rows: Sequence[JsonRow], split: str) -> Grid:
    """Percent right by skill; the last line is what naming the commonest answer scores."""
    first = rows[0]
    note = f", {first['note']}" if first["note"] else ""
    about = (
        f"{_questions(first, split)}{note} · mean: the headline · "
        "agreement: with the unpruned answers · guessing: the commonest answer of each skill · "
        "MACs: share of the LM prefill's without pruning"
    )
    skills = list(first["by_skill"])
    lines: list[list[str] | None] = []
    for row in rows:
        right = [row["mean"], *(row["by_skill"][skill] for skill in skills), row["agreement"]]
        lines.append([row["method"], *(f"{x:.1f}" for x in right), percent(row["macs_share"])])
    floor = [first["floor"], *(first["floor_by_skill"][skill] for skill in skills)]
    lines += [None, ["(guessing)", *(f"{x:.1f}" for x in floor), "", ""]]
    return table(about, ["method", "mean", *skills, "agreement", "MACs"], lines)


def sweep_table(rows: Sequence[JsonRow], split: str) -> Grid:
    """Percent right with its interval and the difference to the unpruned model, beside the cost."""
    first = rows[0]
    about = (
        f"{_questions(first, split)} · 95 %: interval over pictures · "
        "against none: paired, points · same: answers equal to the unpruned ones · "
        "MACs: share of the LM prefill's without pruning"
    )
    lines = []
    for row in rows:
        change = row["against_none"]
        moved = ""
        if change is not None and row is not first:
            moved = f"{change['points']:+.1f}"
            if change["low"] is not None:
                moved += f" [{change['low']:+.1f}, {change['high']:+.1f}]"
        between = "{:.1f} to {:.1f}".format(*row["interval"]) if row["interval"] else ""
        cells = [f"{row['mean']:.1f}", between, moved, f"{row['agreement']:.1f}"]
        lines.append([row["method"], *cells, percent(row["macs_share"])])
    return table(about, ["method", "mean", "95 %", "against none", "same", "MACs"], lines)


def score_table(score: JsonRow) -> Grid:
    """Percent: the headline above its parts; further metrics are beside the figure they belong to."""
    graded = f"{score['n']:,} questions"
    if score["partial"]:
        graded = f"PARTIAL: {graded} (the files hold {score['questions']:,}), so this is not the benchmark's number"
    about = (
        f"{graded} · percent · rules: {score['source']}"
        f" ({'' if score['checked'] else 'not '}checked against that scorer's own output)"
    )
    if score["unknown"]:
        about += f" · answers to unknown questions, passed over: {score['unknown']:,}"
    metrics = {name.rpartition("/")[::2]: f"{value:.2f}" for name, value in score["metrics"].items()}
    names = list(dict.fromkeys(name for _, name in metrics))

    def line(label: str, value: float, of: str) -> list[str]:
        return [label, f"{value:.2f}", *(metrics.get((of, name), "") for name in names)]

    parts = [line(skill, value, skill) for skill, value in score["by_skill"].items()]
    title = f"{score['benchmark']} {score['split']}, protocol {score['protocol']}"
    lines = [line("mean", score["mean"], ""), None, *parts]
    return replace(table(about, ["skill", "score", *names], lines), title=title)


def _questions(row: JsonRow, split: str) -> str:
    """Which questions were answered."""
    of = f"PARTIAL: {row['n']} of {row['total']}" if row["partial"] else row["n"]
    return (
        f"{row['model']} on {row['benchmark']}: percent right of {of} questions, split {split}, seed {row['seed']}, "
        f"protocol {row['protocol']}"
    )
