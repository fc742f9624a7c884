"""The report as a page of Markdown, made from its document."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from deltaprune.evaluate.paper import NOTES
from deltaprune.evaluate.statistics import RESAMPLES

UNPRUNED = ("none", "NoPruning()")
MOST_PARTS = 8  # columns of skills and metrics on a page; a report.csv has them all
FIGURES = ("accuracy", "against `none`", "p", "same answers", "MACs", "kept", "ms")


def markdown(document: Mapping[str, Any]) -> str:
    """A page: for each model and benchmark a heading, one table, and what its columns are."""
    same = ("model", "benchmark", "protocol", "split", "seed", "note")
    groups = groupby(document["rows"], key=lambda row: tuple(row[name] for name in same))
    return "\n".join(_section(list(rows)) for _, rows in groups)


def _section(rows: Sequence[Mapping[str, Any]]) -> str:
    """One model on one benchmark."""
    first = rows[0]
    shown, left_out = _parts(first)
    paper = any(row["paper"] is not None for row in rows)
    header = ["method", *FIGURES, *(name for _, name in shown), "n", *(["paper"] if paper else [])]
    guess = [first["floor_by_skill"].get(name) if kind == "by_skill" else None for kind, name in shown]
    lines = [["*always the commonest answer*", number(first["floor"]), *[""] * 6, *map(number, guess), "", ""]]
    for row in rows:
        values = [number(row[kind].get(name)) for kind, name in shown]
        lines.append([f"`{row['method']}`", *_figures(row), *values, row["label"] or f"{row['n']:,}"])
        lines[-1].append(number(row["paper"]))
    split = f", split {first['split']}" if first["split"] else ""
    note = f", {first['note']}" if first["note"] else ""
    head = f"# {first['model']} on `{first['benchmark']}`\n\nProtocol `{first['protocol']}`{note}{split}, "
    head += f"seed {first['seed']}."
    table = [header, ["---"] + ["---:"] * (len(header) - 1), *(line[: len(header)] for line in lines)]
    notes = [f"- {note}" for note in _notes(rows, left_out, paper)]
    return "\n".join([head, "", *map(cells, table), "", *notes]) + "\n"


def _parts(row: Mapping[str, Any]) -> tuple[list[tuple[str, str]], int]:
    """The skills and further metrics that have a column, as (key of the row, name), and how many have none.

    Skills come first; each kind is shown whole or not at all. A single skill is the headline.
    """
    shown: list[tuple[str, str]] = []
    left_out = 0
    for kind in ("by_skill", "metrics"):
        names = list(row[kind])
        if kind == "by_skill" and len(names) == 1:
            continue
        if len(shown) + len(names) <= MOST_PARTS:
            shown += [(kind, name) for name in names]
        else:
            left_out += len(names)
    return shown, left_out


def _figures(row: Mapping[str, Any]) -> list[str]:
    """The cells under `FIGURES`."""
    against, kept = row["against_none"], ", ".join(map(str, row["kept"] or ())) or "all"
    is_none = row["method"].strip() in UNPRUNED
    points, p = ("", "") if is_none else ("-", "-") if against is None else (signed(against), p_value(against["p"]))
    ms = f"{row['ms']:.1f}" if row["ms"] else "-"
    share = f"{100 * row['macs_share']:.1f} %"
    return [within(row["mean"], row["interval"]), points, p, f"{row['agreement']:.1f} %", share, kept, ms]


def within(value: float, interval: Sequence[float] | None) -> str:
    """A percentage with its interval."""
    return f"{value:.1f}" + ("" if interval is None else f" [{interval[0]:.1f}, {interval[1]:.1f}]")


def signed(change: Mapping[str, Any]) -> str:
    """A difference with its interval."""
    if change["low"] is None:
        return f"{change['points']:+.1f}"
    return f"{change['points']:+.1f} [{change['low']:+.1f}, {change['high']:+.1f}]"


def p_value(p: float | None) -> str:
    """Three decimals; the smallest p that the resamples allow is shown as an upper bound."""
    if p is None:
        return "-"
    least = 2 / (RESAMPLES + 1)
    return f"≤ {least:.3f}" if p <= least else f"{p:.3f}"


def number(value: float | None) -> str:
    """One decimal, or nothing."""
    return "" if value is None else f"{value:.1f}"


def cells(texts: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in texts) + " |"


def _notes(rows: Sequence[Mapping[str, Any]], left_out: int, paper: bool) -> list[str]:
    """What the columns of a table are."""
    first = rows[0]
    notes = [
        "accuracy: the protocol's headline, percent; in brackets its 95 % interval, by drawing pictures with "
        f"replacement ({RESAMPLES:,} times).",
        "against `none`: points won (+) or lost (-) to the unpruned model on the same questions, with the interval of "
        "the difference; p: two-sided, by the same draws in pairs. It is shown because it tests the headline and "
        "keeps the questions about one picture together; McNemar's exact p is in report.csv and report.json. A dash: "
        "`none` was not among the methods.",
        "same answers: equal to the unpruned model's, right or wrong.",
        f"MACs: of the LM's prefill, share of those without pruning, for {first['text_tokens']:.1f} text tokens; kept: "
        "visual tokens after each stage.",
        "ms: mean per question on this machine, the picture's share included; a dash: all answers were stored already.",
    ]
    if left_out:
        notes.append(f"report.csv has {left_out} further skills and metrics.")
    if any(row["label"] for row in rows):
        notes.append("**partial**: not the whole split was answered, so the number is not the benchmark's.")
    if any(row["errors"] for row in rows):
        notes.append(f"{max(row['errors'] for row in rows)} questions failed and are not among the n.")
    if paper:
        notes.append(f"paper: percent, as printed. {NOTES[first['model']]}")
    return notes
