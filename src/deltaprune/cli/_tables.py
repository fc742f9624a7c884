"""What the tables on stdout have in common, and those of `calibrate` and `methods`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from deltaprune.cli._grid import Grid, paragraphs
from deltaprune.cli._grid import show as show

JsonRow = dict[str, Any]
FREE = {"answer", "why"}  # columns of free text


def plan_table(model: str, plan: JsonRow) -> Grid:
    """Where to prune and why."""
    early, late, source = plan["early"], plan["late"], plan["source"]
    use = f"--method dtp:early={early},late={late}"
    about = f"{model}: from {source['samples']} pictures; use it as --plan FILE or as {use}"
    lines = [[stage, str(plan[stage]), source[stage]] for stage in ("early", "late")]
    if plan["withdrawal"] is not None:
        never = plan["withdrawal"] == plan["model"]["n_layers"]
        lines.append(["vtw", "never" if never else str(plan["withdrawal"]), source["withdrawal"]])
    if plan["freezing"]:
        found = source["freezing"]
        passed = " ".join(f"{layer}{how[0]}" for layer, how, _ in plan["freezing"])
        why = f"in this order (w writes, s skips) down to {found['shares'][-1]:.3f} of the MACs"
        lines.append(["freeze", passed, f"{why}; {found['evaluations']} trials, {found['seconds']:g} s"])
    return table(about, ["stage", "after layer", "why"], lines, n_left=3)


def methods_tables(document: JsonRow) -> list[Grid]:
    """A table of methods and one of scores."""
    about = {
        "methods": "written name:field=value,field=value, such as dtp:keep=0.25,late=none; the values are the defaults",
        "scores": "the value of a method's field score, such as dtp:score=readout",
    }
    tables = []
    for kind, entries in document.items():
        lines: list[Any] = []
        for entry in entries:
            values = ((name, "VALUE" if value is None else value) for name, value in entry["fields"].items())
            fields = ", ".join(f"{name}={value}" for name, value in values)
            told = [fields, entry["about"], entry["paper"] and f"from: {entry['paper']}"]
            lines += [None, [entry["name"], paragraphs(*filter(None, told))]]
        tables.append(
            table(f"{kind}: {about[kind]}", [kind[:-1], "fields, what it does, where it is from"], lines[1:], 2)
        )
    return [replace(each, free=frozenset({1})) for each in tables]


def table(about: str, header: Sequence[str], lines: Sequence[Sequence[Any] | None], n_left: int = 1) -> Grid:
    """A table with a line below that explains it; columns in `FREE` wrap."""
    free = frozenset(i for i, name in enumerate(header) if name in FREE)
    return Grid(header, lines, about, n_left=n_left, free=free)


def kept_tokens(counts: Sequence[int] | None) -> str:
    """Visual tokens after each stage."""
    return ", ".join(map(str, counts or ())) or "all"


def percent(share: float) -> str:
    """A fraction in percent."""
    return f"{100 * share:.1f}%"


def planned(rows: Sequence[JsonRow]) -> str:
    """Where a plan that was not calibrated comes from."""
    return next((f" · plan: {row['plan']}" for row in rows if "plan" in row), "")
