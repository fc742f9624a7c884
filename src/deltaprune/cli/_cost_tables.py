"""The tables of `ask`, `cost` and `budget`: tokens kept and the MACs or the time that they take."""

from collections.abc import Sequence
from dataclasses import replace

from deltaprune.cli._grid import Grid
from deltaprune.cli._tables import JsonRow, kept_tokens, percent, planned, table

UNITS = ((1e12, "T", "10^12"), (1e9, "G", "10^9"), (1e6, "M", "10^6"))


def ask_tables(rows: Sequence[JsonRow], device: str) -> list[Grid]:
    """A table for each question, the unpruned answer above the pruned ones."""
    header = ["method", "answer", "kept", "MACs", "vision", "prefill", "decode"]
    lines = [
        [row["method"], row["answer"], kept_tokens(row["kept"]), percent(row["macs_share"])]
        + [f"{row['ms'][part]:.1f}" for part in ("vision", "prefill", "decode")]
        for row in rows
    ]
    about = (
        "kept: visual tokens after each stage · MACs: share of the LM prefill's without pruning · "
        f"vision, prefill, decode: ms on {device}, medians after a warm-up{_encoded(rows)}{planned(rows)}"
    )
    each = len({row["method"] for row in rows})
    whole = table("", header, lines, n_left=2)
    return [
        replace(whole, title=rows[i]["question"], about=about if i + each == len(rows) else "", first=i, last=i + each)
        for i in range(0, len(rows), each)
    ]


def cost_table(rows: Sequence[JsonRow], flops: bool = False) -> Grid:
    """MACs (or FLOPs) by component, in the unit that the largest total asks for; the last line is a decoded token."""
    first, count = rows[0], "flops" if flops else "macs"
    unit, letter, power = _unit(rows, count)
    name, meaning = ("FLOPs", "operations, 2 for each MAC") if flops else ("MACs", "multiply-accumulates")
    about = (
        f"{first['model']}: one image{_visual(first)} and {first['text_tokens']} text tokens, convention "
        f"{first['convention']}, in {letter}{name} ({power} {meaning}) · kept: visual tokens after each stage · "
        f"share: of the LM prefill's MACs without pruning · {_decoded(rows)}{planned(rows)}"
    )
    components = list(first[count])

    def cells(counts: JsonRow) -> list[str]:
        return [f"{counts[name] / unit:,.3f}" for name in components]

    lines = [[row["method"], kept_tokens(row["kept"]), percent(row["share"]), *cells(row[count])] for row in rows]
    decoded = [[f"(decode{_after(rows, row)})", "", "", *cells(row[f"decode_{count}"])] for row in rows]
    if _same_decode(rows):
        decoded = decoded[:1]
    return table(about, ["method", "kept", "share", *components], [*lines, None, *decoded])


def budget_table(rows: Sequence[JsonRow]) -> Grid:
    """The methods that meet a budget, as they are asked for."""
    first = rows[0]
    unit, letter, power = _unit(rows, "macs")
    timed = "ms" in first
    most = (
        f"{first['budget']:g} ms of LM prefill, by the plan's layer times"
        if timed
        else f"{percent(first['budget'])} of the LM prefill's MACs without pruning"
    )
    about = (
        f"{first['model']}: at most {most} (vtw: the nearest layer), one image{_visual(first)} and "
        f"{first['text_tokens']} text tokens · kept: visual tokens after each stage · MACs: all of them, convention "
        f"{first['convention']}, in {letter}MACs ({power} multiply-accumulates){planned(rows)}"
    )
    lines = [
        [
            row["method"],
            kept_tokens(row["kept"]),
            *([f"{row['ms']:.3f}"] if timed else []),
            f"{100 * row['share']:.2f}%",
            f"{row['macs']['total'] / unit:,.3f}",
        ]
        for row in rows
    ]
    return table(about, ["method", "kept", *(["ms"] if timed else []), "share", "MACs"], lines)


def _unit(rows: Sequence[JsonRow], count: str) -> tuple[float, str, str]:
    """The unit that leaves the largest total at least two digits before the point."""
    largest = max(row[count]["total"] for row in rows)
    return next((unit for unit in UNITS if largest >= 10 * unit[0]), UNITS[-1])


def _visual(row: JsonRow) -> str:
    """How many visual tokens an image has, where that depends on the image."""
    return f" of {row['visual_tokens']} visual tokens" if "visual_tokens" in row else ""


def _encoded(rows: Sequence[JsonRow]) -> str:
    """A model of our own encodes the picture once for all rows, transformers' generate does so in every call."""
    return "" if "visual_tokens" in rows[0] else "; vision is encoded once"


def _same_decode(rows: Sequence[JsonRow]) -> bool:
    return all(row["decode_macs"] == rows[0]["decode_macs"] for row in rows)


def _after(rows: Sequence[JsonRow], row: JsonRow) -> str:
    return "" if _same_decode(rows) else f", {row['method']}"


def _decoded(rows: Sequence[JsonRow]) -> str:
    if _same_decode(rows):
        return "decode: each further token of the answer, under any method"
    return "decode: the second token of the answer"
