"""The page of `peer_llama_cpp.py`, and what it keeps of earlier runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from provenance import footer


def verdict(ratio: float, target: float | None) -> str:
    """Met, or missed by how much."""
    if target is None:
        return "reported"
    return "met" if ratio >= target else f"MISSED by {target - ratio:.2f}"


def together(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What was measured before, with what was measured now in place of the same type on the same processor."""

    def key(part: Mapping[str, Any]) -> tuple[str, str]:
        return part["provenance"]["device"], part["type"]

    kept = {key(part): part for part in (*old, *new)}
    return [kept[each] for each in sorted(kept)]


def page(parts: Sequence[Mapping[str, Any]]) -> str:
    """The Markdown page, a section for each processor."""
    lines = [
        "# llama.cpp beside us on the CPU",
        "",
        f"{parts[0]['layers']} layers of mamba-2.8b's width with the same random tensors in both; prefill of so many "
        "rows up to the last row's logits, and one decoded token, head included. Milliseconds are medians over rounds "
        "in which the two take turns; llama.cpp / ours is the median of the ratios within a round, above 1 where ours "
        "is faster. Apart: the relative distance of the logits of the two. Activations beside our int8 and int4 are "
        "bfloat16.",
    ]
    for device in dict.fromkeys(part["provenance"]["device"] for part in parts):
        here = [part for part in parts if part["provenance"]["device"] == device]
        lines += ["", f"## {device}", "", "| what | ours | llama.cpp | ms | ms | llama.cpp / ours | target | | apart |"]
        lines += ["|---|---|---|---:|---:|---:|---:|---|---:|"]
        lines += [
            _line(part, row) for i in range(len(here[0]["rows"])) for part in here for row in part["rows"][i : i + 1]
        ]
        for part in here:
            lines += ["", f"{part['type']}: {footer(part['provenance'])[:-1]}, {part['llama_cpp']}"]
    return "\n".join(lines) + "\n"


def _line(part: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """One row of the table."""
    what = f"prefill {row['rows']}" if row["part"] == "prefill" else "decode"
    target = "" if row["target"] is None else f">= {row['target']}"
    return (
        f"| {what} | {part['type']} | {part['theirs']} | {row['ours_ms']:.1f} | {row['theirs_ms']:.1f} "
        f"| {row['ratio']:.2f} | {target} | {row['verdict']} | {row['apart']:.0e} |"
    )
