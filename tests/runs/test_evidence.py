"""The page of evidence, from made-up results: a claim holds when the numbers say so, and not otherwise."""

import json
from pathlib import Path
from typing import Any

import pytest

from deltaprune.models import registry
from evidence import COMMANDS, HOLDS, main, page, read
from paper_tables.claims import Claim, at_least, at_most, claims
from paper_tables.entries import TABLES

CONFIG = registry["bundled"].config()
CURVE = [0.1, 0.2, 0.4, 0.3, *[0.2] * 10, *[0.5] * 6]  # of 20 layers: a peak after 3, a jump after 14
Points = dict[str, float]


def change(points: float) -> dict[str, Any]:
    return {"points": points, "low": points - 0.4, "high": points + 0.4, "p": 0.01, "mcnemar": 0.01, "n": 10_000}


def rows(methods: list[str], points: Points) -> list[dict[str, Any]]:
    """A method's mean is 98 and what `points` says of it."""
    common = {"model": "bundled", "benchmark": "scenes", "n": 10_000, "floor": 30.0, "interval": [0.0, 99.0]}
    return [
        {**common, "method": m, "mean": 98 + points.get(m, 0.0), "against_none": change(points.get(m, 0.0))}
        for m in methods
    ]


def table(name: str, points: Points) -> dict[str, Any]:
    entries = TABLES[name][1](CONFIG, 11)
    comparisons = []
    for block in dict.fromkeys(entry.block for entry in entries if entry.block):
        first, *others = [entry.method for entry in entries if entry.block == block]
        for other in others:
            gap = points.get(first, 0.0) - points.get(other, 0.0)
            verdict = "neither" if abs(gap) < 0.4 else "wins" if gap > 0 else "loses"
            about = {"block": block, "dtp": first, "rival": other, "change": change(gap), "dearer": 0.0}
            comparisons.append({**about, "corrected": 1.0 if verdict == "neither" else 0.02, "verdict": verdict})
    return {
        "provenance": {"commit": "abc1234"},
        "entries": [vars(entry) for entry in entries],
        "rows": rows([entry.method for entry in entries], points),
        "comparisons": comparisons,
    }


def results(points: Points, curve: list[float] = CURVE) -> dict[str, dict[str, Any]]:
    tried = [
        {"rule": rule, "early": early, "late": 14, "accuracy": 95.0 - early, "unpruned": 98.0}
        for rule, early in (("first_peak", 3), ("argmin", 1), ("js", 2))
    ]
    source = {"curve": curve, "rule": "js", "tried": tried, "chosen_by": "ours is better by 1 point, p = 0.01"}
    methods = ["none", "vtw:after=14", "vtw:after=10", "dtp:keep=0.9", "dtp:keep=0.5"]
    bundled = {
        "provenance": {"commit": "abc1234"},
        "plan": {"early": 2, "late": 14, "source": source},
        "rows": rows(methods, points),
    }
    rivals = points | {method: -20.0 for method in points if method.startswith("vtw")}
    return {"bundled": bundled} | {f"scenes_{name}": table(name, rivals) for name in TABLES}


PAPERS: Points = {
    "vtw:after=14": -0.1,
    "vtw:after=10": -11.8,
    "dtp:keep=0.9": -0.1,
    "dtp:keep=0.5": -0.9,
    "dtp:keep=0.5,late=none": -0.9,
}
LOST = {entry.method: -20.0 for name in TABLES for entry in TABLES[name][1](CONFIG, 11)}  # all rivals far behind


def found(points: Points, curve: list[float] = CURVE) -> dict[str, Claim]:
    return {claim.text: claim for claim in claims(results(points, curve))}


def only(claims: dict[str, Claim], start: str) -> Claim:
    (claim,) = (claim for text, claim in claims.items() if text.startswith(start))
    return claim


def test_a_model_like_the_papers_holds_all_claims() -> None:
    held = found({**LOST, **PAPERS})
    assert len(held) == 18
    assert {text: claim.holds for text, claim in held.items()} == dict.fromkeys(held, True)


def test_the_papers_numbers_are_as_printed() -> None:
    held = found(PAPERS)
    late, half, most = (only(held, start) for start in ("The late stage", "Half the depth", "DTP with keep=0.9 loses"))
    assert late.cobra == "65.7 against 65.8: -0.1"
    assert half.cobra == "54.0 against 65.8: -11.8"
    assert half.ours == "86.2 against 98.0: -11.8 [-12.2, -11.4]"
    assert most.cobra == "65.8 against 65.8: +0.0"
    assert late.robomamba == "66.6 against 67.0: -0.4"  # the average of its row, not the misprint
    dart = only(held, "DTP with keep=0.5 is better than DART")
    assert (dart.cobra, dart.robomamba) == ("64.9 against 64.3: +0.6", "")
    assert only(held, "Δ_t ranks better than B_t").robomamba == "67.7 against 66.6: +1.1"


@pytest.mark.parametrize(
    ("start", "method", "points", "holds"),
    [
        ("The late stage", "vtw:after=14", -3.0, False),
        ("The late stage", "vtw:after=14", -1.2, None),
        ("Half the depth", "vtw:after=10", -1.0, False),
        ("DTP with keep=0.9 loses", "dtp:keep=0.9", -2.0, False),
        ("DTP with keep=0.5 loses", "dtp:keep=0.5", -9.0, False),
        ("DTP with keep=0.5 loses", "dtp:keep=0.5", -4.0, True),
        ("Δ_t ranks better than y_t", "dtp:keep=0.5,score=output", 0.0, False),
        ("Δ_t ranks better than chance", "dtp:keep=0.5,score=random", -0.8, None),
        ("Text must stay", "dtp:keep=0.5,candidates=all", 0.0, False),
        ("Beside an early stage", "dtp:keep=0.5,late=none", 4.0, False),
    ],
)
def test_a_claim_follows_its_numbers(start: str, method: str, points: float, holds: bool | None) -> None:
    assert only(found({**LOST, **PAPERS, method: points}), start).holds is holds


def test_the_curve_decides_about_the_spread() -> None:
    no_peak = only(found(PAPERS, sorted(CURVE)), "The spread of")
    assert (no_peak.holds, no_peak.ours) == (False, "no peak in the first half")
    assert only(found(PAPERS), "The spread of").ours == "after 3 of 20 (0.15)"
    falls = only(found(PAPERS, [*CURVE[:-1], 0.01]), "After the late layer")
    assert falls.holds is False


def test_an_interval_across_the_bound_decides_nothing() -> None:
    assert at_most(change(-1.0), 1.0) is None
    assert at_least(change(-5.0), 5.0) is None
    nothing = {"points": -9.0, "low": None, "high": None}
    assert at_most(nothing, 1.0) is at_least(nothing, 1.0) is None


def write(folder: Path, made: dict[str, dict[str, Any]]) -> None:
    for name, document in made.items():
        (folder / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")


def test_the_page_has_every_claim_and_counts_them(tmp_path: Path) -> None:
    write(tmp_path, results({**LOST, **PAPERS, "vtw:after=14": -3.0, "dtp:keep=0.5,score=random": -0.9}))
    main(tmp_path, tmp_path / "evidence.md")
    text = (tmp_path / "evidence.md").read_text(encoding="utf-8")
    assert "**16 of 18 claims hold**, 1 do not, 1 are undecided" in text
    for claim in claims(read(tmp_path)):
        (line,) = (line for line in text.splitlines() if line.startswith(f"| {claim.text} |"))
        assert line.endswith(f"| {claim.ours} | {HOLDS[claim.holds]} |")
    assert "| **js** | 2 and 14 | 93.0 (-5.0) |" in text
    assert all(f"{name} (commit abc1234)" in text for name in COMMANDS)
    assert text.splitlines()[-1].startswith("`python")
    assert "| equal cost | random tokens |" in text
    assert "| equal cost | FastV |" not in text  # the paper compares with it: it is among the claims


def test_rivals_are_sorted_by_what_the_test_says() -> None:
    made = results({**PAPERS, "dtp:late=none,early=1,keep=0.5": -20.0, "dtp:late=none,early=2,keep=0.5": 10.0})
    line = next(line for line in page(made).splitlines() if line.startswith("| early layer, keep=0.5 | uniqueness |"))
    _, _, _, better, worse, undecided, _ = (cell.strip() for cell in line.split("|"))
    assert better == "after 2 layers (+10.0)"
    assert worse == "after 1 layers (-20.0)"
    assert undecided.startswith("after 3 layers (+0.0), after 4 layers (+0.0)")


def test_what_is_missing_or_mixed_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        SystemExit, match=r"bundled\.json is missing: make it with `python -m training\.publish FOLDER`"
    ):
        main(tmp_path, tmp_path / "evidence.md")
    made = results(PAPERS)
    made["scenes_table3"]["rows"][0]["benchmark"] = "scenes1"
    write(tmp_path, made)
    with pytest.raises(SystemExit, match="of several models or benchmarks"):
        main(tmp_path, tmp_path / "evidence.md")
    for row in made["bundled"]["rows"]:
        del row["against_none"]
    write(tmp_path, made)
    with pytest.raises(SystemExit, match="has no intervals"):
        main(tmp_path, tmp_path / "evidence.md")
    assert not (tmp_path / "evidence.md").exists()
