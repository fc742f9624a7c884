"""The subjects of `deltaprune analyse` that are about layers: map, sets, depth."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from deltaprune.cli._asked import Asked, Done, moved
from deltaprune.cli._tables import table
from deltaprune.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deltaprune.analysis import Sensitivity


def layer_map(asked: Asked) -> Done:
    """Each pair of an early and a late layer; the table is of the JS, early layers down, late ones across."""
    from deltaprune.analysis import sensitivity

    asked.working.say("measuring each pair of layers")
    keep, depth = asked.one_keep, asked.vlm.shape.n_layers
    found = sensitivity(
        asked.vlm,
        asked.inputs,
        keep,
        asked.early or None,
        asked.late or None,
        asked.score,
        asked.working.count,
        asked.run,
    )
    rows = [
        row
        for i, early in enumerate(found.early)
        for j, late in enumerate(found.late)
        if (row := _pair(asked, found, i, j, early, late)) is not None
    ]
    if not rows:
        raise UserError("No late layer comes after an early one: give --late beyond --early.")
    about = (
        f"{asked.vlm.config.name}: JS of the next token against the unpruned model, 10^-3 nats, mean over "
        f"{found.samples} pictures · {100 * keep:g} % of the visual tokens are kept after the early layer (down) and "
        "none after the late one (across); none: no late stage"
    )
    header = ["early", *("none" if late == depth else str(late) for late in found.late)]
    lines = [
        [str(early), *("" if value != value else f"{1000 * value:.3g}" for value in line)]
        for early, line in zip(found.early, found.js, strict=True)
    ]
    return Done(rows, table(about, header, lines), _map_figure(asked, found) if asked.drawn else None)


def _pair(asked: Asked, found: "Sensitivity", i: int, j: int, early: int, late: int) -> dict[str, Any] | None:
    """The row of one pair; None where there is no such pair."""
    from deltaprune.methods.dtp import DTP

    if found.js[i, j] != found.js[i, j]:
        return None
    last = None if late == asked.vlm.shape.n_layers else late
    macs = asked.macs(DTP(found.keep, early, last, asked.score))
    told = {"early": early, "late": last, "js": found.js[i, j].item(), "same": found.same[i, j].item()}
    return {**asked.about(found.samples), "keep": found.keep, **told, "macs_share": macs}


def _map_figure(asked: Asked, found: "Sensitivity") -> "Figure":
    from deltaprune.analysis.figures import sensitivity_map

    plan, depth = asked.vlm.config.plan, asked.vlm.shape.n_layers
    marked = None if plan is None else (plan.early, plan.late)
    title = (
        f"Early and late layer, {asked.vlm.config.name}\nkeep {found.keep:g}, {found.samples} pictures; ring: the plan"
    )
    return sensitivity_map(found.js, found.early, found.late, depth, marked, title)


def disjoint_sets(asked: Asked) -> Done:
    """The layers of each set, and how many different ones there are."""
    from deltaprune.calibrate import disjoint

    asked.working.say("calibrating on each set")
    found = disjoint(asked.vlm, asked.sets, run=asked.run)
    rows = [{"model": asked.vlm.config.name, "set": i, **asdict(each)} for i, each in enumerate(found, 1)]
    names = ("first_peak", "argmin", "late", "withdrawal")
    about = (
        f"{asked.vlm.config.name}: the layers that disjoint sets of {found[0].samples} pictures ask for · "
        "first_peak, argmin: the paper's two rules for the early layer · late: its rule for the late one · "
        "withdrawal: VTW's criterion"
    )
    lines: list[Any] = [[str(row["set"]), *(str(row[name]) for name in names)] for row in rows]
    spans = [(min(row[name] for row in rows), max(row[name] for row in rows)) for name in names]
    lines += [None, ["span", *(str(low) if low == high else f"{low} to {high}" for low, high in spans)]]
    return Done(rows, table(about, ["set", *names], lines))


def depth_recipes(asked: Asked) -> Done:
    """A row for each recipe that takes its two layers from the depth alone, beside the plan."""
    from deltaprune.analysis import recipes, sensitivity

    asked.working.say("measuring each recipe")
    named = recipes(asked.vlm.shape)
    early, late = (sorted({pair[i] for pair in named.values()}) for i in (0, 1))
    found = sensitivity(
        asked.vlm, asked.inputs, asked.one_keep, early, late, asked.score, asked.working.count, asked.run
    )
    rows: list[dict[str, Any]] = []
    for name, (first, last) in named.items():
        i, j = found.early.index(first), found.late.index(last)
        row = _pair(asked, found, i, j, first, last)
        if row is not None:
            rows.append({"recipe": name, **row})
    about = (
        f"{asked.vlm.config.name}, {asked.vlm.shape.n_layers} layers: dtp with keep={found.keep:g}, {found.samples} "
        "pictures · JS: of the next token against the unpruned model, nats · same: the likeliest next token is "
        "unchanged, % · MACs: share of the LM prefill's without pruning"
    )
    lines = [[row["recipe"], str(row["early"]), str(row["late"] or "none"), *moved(row)] for row in rows]
    return Done(rows, table(about, ["recipe", "early", "late", "JS", "same", "MACs"], lines))
