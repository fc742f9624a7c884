"""The paper's claims as rules on result tables: the paper's numbers, ours, and whether the claim holds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deltaprune.calibrate import first_peak, late
from deltaprune.evaluate.page import signed
from deltaprune.evaluate.paper import PAPER, Printed, nearest_layer
from paper_tables.comparisons import EQUAL

DTP = "dtp:keep=0.5"
SAME = 0.06  # a printed average that is farther from the mean of its row is a misprint
RIVALS = {  # what our Table 1 calls them, and the paper's settings beside DTP's two
    "FastV": {"0.9": "fastv:keep=0.7", "0.5": "fastv:keep=0.5"},
    "VTW, nearest layer": {"0.9": "vtw:after=45", "0.5": "vtw:after=32"},
    "DART": {"0.9": "dart:keep=0.66", "0.5": "dart:keep=0.44"},
}
NEAR, WITHIN, CLEAR = 1.0, 5.0, 5.0  # points: no loss, a small one, a clear one

Documents = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        text: what the paper says, with the bound that decides.
        where: in the paper.
        cobra, robomamba: the paper's numbers; "" where it has none.
        ours: the same of the bundled model.
        holds: None where the questions do not decide it.
    """

    text: str
    where: str
    cobra: str
    robomamba: str
    ours: str
    holds: bool | None


def claims(results: Documents) -> list[Claim]:
    """Every claim, in the order of the paper.

    Args:
        results: the JSON of numbers/ by name: "bundled", "scenes_table1", "scenes_table3", ...
    """
    return [*spread_claims(results), *loss_claims(results), *rival_claims(results), *ablation_claims(results)]


def spread_claims(results: Documents) -> Iterator[Claim]:
    """Section 4.2: what the curve of eq. 7 looks like."""
    curve: Sequence[float] = results["bundled"]["plan"]["source"]["curve"]
    n, l = len(curve), first_peak(curve).after - 1
    peak = curve[l - 1] < curve[l] > curve[l + 1]
    cobra = robomamba = "after 15 of 64 (0.23)"
    ours = f"after {l + 1} of {n} ({(l + 1) / n:.2f})" if peak else "no peak in the first half"
    text = "The spread of Δ has its first peak in the first quarter of the layers"
    yield Claim(text, "Figures 3, 6", cobra, robomamba, ours, peak and l <= n / 4)
    after = late(curve).after
    before, lowest = sum(curve[:after]) / after, min(curve[after:])
    cobra = robomamba = "after 45 of 64 (0.70)"
    ours = f"jumps after {after} of {n} ({after / n:.2f}); lowest after it {lowest:.2g}, mean before {before:.2g}"
    text = "After the late layer the spread stays high: nowhere below the mean of the layers before it"
    yield Claim(text, "Figures 3, 6", cobra, robomamba, ours, lowest >= before)


def loss_claims(results: Documents) -> Iterator[Claim]:
    """Tables 1 and 2: what a method loses against no pruning."""
    n = len(results["bundled"]["plan"]["source"]["curve"])
    vtw = {after: f"vtw:after={nearest_layer(after, n)}" for after in (45, 32)}
    asked = (
        ("The late stage is free: no image after 45/64 of the layers", "vtw:after=45", vtw[45], NEAR),
        ("Half the depth is too early: no image after 32/64 of the layers", "vtw:after=32", vtw[32], -CLEAR),
        ("DTP with keep=0.9 loses nothing", "dtp:keep=0.9", "dtp:keep=0.9", NEAR),
        ("DTP with keep=0.5 loses little", DTP, DTP, WITHIN),
    )
    for text, paper, method, bound in asked:
        bundled = {row["method"]: row for row in results["bundled"]["rows"]}
        row, none = bundled[method], bundled["none"]
        change = row["against_none"]
        holds = at_most(change, bound) if bound > 0 else at_least(change, -bound)
        limit = f": at {'most' if bound > 0 else 'least'} {abs(bound):g} point{'s' if abs(bound) > 1 else ''} lost"
        ours = f"{row['mean']:.1f} against {none['mean']:.1f}: {signed(change)}"
        yield Claim(text + limit, "Tables 1, 2", _pair("1", paper, "none"), _pair("2", paper, "none"), ours, holds)


def rival_claims(results: Documents) -> Iterator[Claim]:
    """Tables 1 and 2: DTP against its rivals at equal cost."""
    for label, papers in RIVALS.items():
        for keep, paper in papers.items():
            dtp = f"dtp:keep={keep}"
            text = f"DTP with keep={keep} is better than {label.partition(',')[0]} at equal cost"
            where = "Table 1 of the poster" if label == "DART" else "Tables 1, 2"
            ours, holds = _against(results["scenes_table1"], dtp, label)
            yield Claim(text, where, _pair("1", dtp, paper), _pair("2", dtp, paper), ours, holds)


def ablation_claims(results: Documents) -> Iterator[Claim]:
    """Tables 3 to 5, at keep=.5."""
    scores = {"y_t": "output", "B_t": "input", "C_t": "readout"}
    asked = [(f"Δ_t ranks better than {label}", "3", label, f"{DTP},score={name}") for label, name in scores.items()]
    asked += [
        ("Δ_t ranks better than chance", "4", "Random", f"{DTP},score=random"),
        ("Text must stay: ranking visual tokens only is better", "4", "Top-k (all tokens)", f"{DTP},candidates=all"),
    ]
    for text, table, label, rival in asked:
        ours, holds = _against(results[f"scenes_table{table}"], DTP, label)
        cobra, robomamba = (_pair(table, DTP, rival, model) for model in ("cobra", "robomamba"))
        yield Claim(text, f"Table {table}", cobra, robomamba, ours, holds)
    rival, label = f"{DTP},late=none", "complete pruning disabled"
    comparison, ours = _found(results["scenes_table5"], DTP, label)
    cobra, robomamba = (_pair("5", DTP, rival, model) for model in ("cobra", "robomamba"))
    text = f"Beside an early stage the late one is free as well: at most {NEAR:g} point lost"
    yield Claim(text, "Table 5", cobra, robomamba, ours, at_most(comparison["change"], NEAR))


def at_most(change: Mapping[str, Any], points: float) -> bool | None:
    """Whether at most so many points are lost: the whole interval says so, or says not, else None."""
    if change["low"] is None:
        return None
    return True if change["low"] >= -points else False if change["high"] < -points else None


def at_least(change: Mapping[str, Any], points: float) -> bool | None:
    """Whether at least so many points are lost, likewise."""
    if change["low"] is None:
        return None
    return True if change["high"] <= -points else False if change["low"] > -points else None


def _against(document: Mapping[str, Any], dtp: str, label: str) -> tuple[str, bool | None]:
    """Our numbers and whether DTP is better than the rival that the table calls `label`."""
    comparison, ours = _found(document, dtp, label)
    return ours, {"wins": True, "loses": False, "neither": None}[comparison["verdict"]]


def _found(document: Mapping[str, Any], dtp: str, label: str) -> tuple[Mapping[str, Any], str]:
    """The comparison of DTP with a rival, and what it says."""
    (block,) = (entry["block"] for entry in document["entries"] if entry["method"] == dtp)
    (rival,) = (e["method"] for e in document["entries"] if e["block"] == block and e["label"] == label)
    (found,) = (c for c in document["comparisons"] if c["dtp"] == dtp and c["rival"] == rival)
    means = {row["method"]: row["mean"] for row in document["rows"]}
    p = "p < 0.001" if found["corrected"] < 0.001 else f"p = {found['corrected']:.3f}"
    cost = "" if abs(found["dearer"]) <= EQUAL else f"; `{rival}` has {100 * found['dearer']:+.1f} points of MACs"
    return found, f"{means[dtp]:.1f} against {means[rival]:.1f}: {signed(found['change'])}, {p}{cost}"


def _pair(table: str, method: str, other: str, model: str | None = None) -> str:
    """Two means of the paper and their difference, "" where a table lacks one of them."""
    model = model or {"1": "cobra", "2": "robomamba"}[table]
    means = {row.method: _mean(row) for row in PAPER if row.model == model and row.table.startswith(table)}
    if method not in means or other not in means:
        return ""
    points = round(means[method] - means[other], 1) + 0.0  # no -0.0
    return f"{means[method]:.1f} against {means[other]:.1f}: {points:+.1f}"


def _mean(row: Printed) -> float:
    """As printed, but for the misprints."""
    return row.mean if row.average is None or abs(row.average - row.mean) > SAME else row.average
