"""A table of our own in the layout of the paper's: method, cost, ratio, scores, mean; the paper's mean at the end."""

from collections.abc import Mapping, Sequence
from typing import Any

from deltaprune.evaluate.page import cells, number, p_value, signed, within
from paper_tables.comparisons import LEVEL
from paper_tables.entries import NONE, Entry

LEADERS = {"dtp": "DTP", "freeze": "Freeze"}  # the method that a table compares with the others


def page(
    title: str,
    entries: Sequence[Entry],
    rows: Sequence[Mapping[str, Any]],
    mega_macs: Sequence[float],
    paper: Mapping[str, float],
    said: Sequence[str],
) -> str:
    """Markdown without the line of provenance.

    Args:
        title: of the page.
        entries: the table's rows.
        rows: of the report, one per entry.
        mega_macs: of the LM's prefill, one per entry.
        paper: the paper's mean by method.
        said: the sentences about who wins.
    """
    first = rows[0]
    skills = list(first["by_skill"])
    header = ["method", "setting", "MMACs", "ratio", *skills, "mean", "against `none`", "p", "same answers"]
    header.append("paper: Cobra")
    lines = [header, ["---", "---", *["---:"] * (len(header) - 2)], _guessing(first, skills, len(header))]
    block = ""
    for entry, row, cost in zip(entries, rows, mega_macs, strict=True):
        if entry.block != block:
            block = entry.block
            lines.append([f"**{block}**", *[""] * (len(header) - 1)])
        lines.append([*_ours(entry, row, cost, skills), _paper(paper, entry.paper)])
    failed = f" {first['errors']} questions failed and are left out of every row." if first["errors"] else ""
    head = (
        f"# {title}\n\n{first['model']} on `{first['benchmark']}`, split {first['split']}, seed {first['seed']}: "
        f"{first['n']:,} questions, the same in every row; percent right.{failed}"
    )
    leader = LEADERS[entries[1].method.partition(":")[0]]
    tail = [f"## Where {leader} wins", "", *_spaced(said), *_notes(first, leader), *_unreached(entries)]
    return "\n".join([head, "", *map(cells, lines), "", *tail]) + "\n"


def _guessing(first: Mapping[str, Any], skills: Sequence[str], width: int) -> list[str]:
    """The row of the commonest answer."""
    floors = [number(first["floor_by_skill"][skill]) for skill in skills]
    line = ["*always the commonest answer*", "", "", "", *floors, number(first["floor"])]
    return [*line, *[""] * (width - len(line))]


def _ours(entry: Entry, row: Mapping[str, Any], cost: float, skills: Sequence[str]) -> list[str]:
    """The cells that we measured."""
    whole = entry.method == NONE
    against = row["against_none"]
    return [
        entry.label,
        f"`{entry.method}`",
        f"{cost:.1f}",
        f"{100 * row['macs_share']:.1f} %",
        *(number(row["by_skill"][skill]) for skill in skills),
        within(row["mean"], row["interval"]),
        "" if whole else signed(against),
        "" if whole else p_value(against["p"]),
        f"{row['agreement']:.1f} %",
    ]


def _paper(means: Mapping[str, float], method: str) -> str:
    """The paper's mean with its change, as the paper prints them."""
    if method not in means:
        return ""
    change = "" if method == NONE else f" ({means[method] - means[NONE]:+.1f})"
    return f"{means[method]:.1f}{change}"


def _spaced(paragraphs: Sequence[str]) -> list[str]:
    return [line for paragraph in paragraphs for line in (paragraph, "")]


def _unreached(entries: Sequence[Entry]) -> list[str]:
    """Which rows some blocks lack."""
    blocks: dict[str, list[str]] = {}
    for entry in entries[1:]:
        blocks.setdefault(entry.block, []).append(entry.label)
    labels = dict.fromkeys(label for block in blocks.values() for label in block)
    lacking = {name: [label for label in labels if label not in block] for name, block in blocks.items()}
    said = "; ".join(f"{name}: {', '.join(missing)}" for name, missing in lacking.items() if missing)
    return [f"- Left out where a method's other fields do not allow so low a cost: {said}."] if said else []


def _notes(first: Mapping[str, Any], leader: str) -> list[str]:
    """What the columns are."""
    return [
        "- MMACs: millions of multiply-accumulates of the LM's prefill, counted as the paper does, for one image and "
        f"{first['text_tokens']:.1f} text tokens; ratio: share of those without pruning.",
        "- mean: of the skills, with its 95 % bootstrap interval over pictures; against `none`: the difference on the "
        "same questions, with its interval and the two-sided p of the paired bootstrap.",
        f"- Where {leader} wins: paired bootstrap of {leader} against each other row of its block; a difference is "
        f"named where p, after Holm's correction for all comparisons on this page, is below {LEVEL:g}. The points are "
        f"{leader}'s less the other's. Written by the script from the rows.",
        "- paper: Cobra: the mean of the benchmarks that the paper's table has, of a much larger model on photographs; "
        "how the rows order is what may be compared, not the numbers.",
    ]
