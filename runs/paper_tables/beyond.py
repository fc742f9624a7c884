"""What the paper does not ask, from the same result tables: three rules for the layers, and Δ against more rivals."""

from collections.abc import Iterator, Mapping
from typing import Any

from paper_tables.claims import RIVALS, Documents

MethodResult = list[str]
VERDICTS = ("wins", "loses", "neither")


def rule_rows(results: Documents) -> list[MethodResult]:
    """rule, layers, accuracy and change of DTP keep=.5 on validation; what was shipped is in bold."""
    plan = results["bundled"]["plan"]
    shipped = plan["source"]["rule"]
    return [
        [
            f"**{each['rule']}**" if each["rule"] == shipped else each["rule"],
            f"{each['early']} and {each['late']}",
            f"{each['accuracy']:.1f} ({each['accuracy'] - each['unpruned']:+.1f})",
        ]
        for each in plan["source"]["tried"]
    ]


def rival_rows(results: Documents) -> list[MethodResult]:
    """Table, rival, and the blocks in which Δ is better, worse, or neither can be said."""
    names = {"scenes_table1": "equal cost", "scenes_early": "early layer, keep=0.5", "scenes_keep": "share kept"}
    rows = ([what, *row] for table, what in names.items() for row in _rivals(results[table]))
    return [row for row in rows if row[1] not in RIVALS]


def _rivals(document: Mapping[str, Any]) -> Iterator[MethodResult]:
    """A row per rival, by its name in the table."""
    labels = {entry["method"]: entry["label"] for entry in document["entries"]}
    found: dict[str, dict[str, list[str]]] = {}
    for each in document["comparisons"]:
        blocks = found.setdefault(labels[each["rival"]], {verdict: [] for verdict in VERDICTS})
        blocks[each["verdict"]].append(f"{each['block']} ({each['change']['points']:+.1f})")
    for label, blocks in found.items():
        yield [label, *(", ".join(blocks[verdict]) for verdict in VERDICTS)]
