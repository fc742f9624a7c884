"""The tables that the commands print on stdout."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from deltaprune.cli._grid import Grid, paragraphs
from deltaprune.cli._grid import show as show

JsonRow = dict[str, Any]
UNITS = ((1e12, "T", "10^12"), (1e9, "G", "10^9"), (1e6, "M", "10^6"))
FREE = {"answer", "why"}  # columns of free text


def ask_tables(rows: Sequence[JsonRow], device: str) -> list[Grid]:
    """A table for each question, the unpruned answer above the pruned ones."""
    header = ["method", "answer", "kept", "MACs", "vision", "prefill", "decode"]
    lines = [
        [row["method"], row["answer"], kept_tokens(row["kept"]), _percent(row["macs_share"])]
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

    lines = [[row["method"], kept_tokens(row["kept"]), _percent(row["share"]), *cells(row[count])] for row in rows]
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
        else f"{_percent(first['budget'])} of the LM prefill's MACs without pruning"
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


def evaluate_table(rows: Sequence[JsonRow], split: str) -> Grid:
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
    return table(about, ["method", "mean", *skills, "agreement", "MACs"], lines)


def sweep_table(rows: Sequence[JsonRow], split: str) -> Grid:
    """Percent right with its interval and the difference to the unpruned model, beside the cost."""
    first = rows[0]
    of = f"PARTIAL: {first['n']} of {first['total']}" if first["partial"] else first["n"]
    about = (
        f"{first['model']} on {first['benchmark']}: percent right of {of} questions, split {split}, seed "
        f"{first['seed']}, protocol {first['protocol']} · 95 %: interval over pictures · "
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
        lines.append([row["method"], *cells, _percent(row["macs_share"])])
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


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _unit(rows: Sequence[JsonRow], count: str) -> tuple[float, str, str]:
    """The unit that leaves the largest total at least two digits before the point."""
    largest = max(row[count]["total"] for row in rows)
    return next((unit for unit in UNITS if largest >= 10 * unit[0]), UNITS[-1])


def _visual(row: JsonRow) -> str:
    """How many visual tokens an image has, where that depends on the image."""
    return f" of {row['visual_tokens']} visual tokens" if "visual_tokens" in row else ""


def planned(rows: Sequence[JsonRow]) -> str:
    """Where a plan that was not calibrated comes from."""
    return next((f" · plan: {row['plan']}" for row in rows if "plan" in row), "")


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
