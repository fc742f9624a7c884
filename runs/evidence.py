"""The paper's claims beside what the bundled model does: docs/evidence.md, written from the result tables.

    python runs/evidence.py

Reads numbers/bundled.json and numbers/scenes_*.json; no model runs. Whether a claim holds is computed from them, by the
bound that the page names.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from deltaprune.errors import UserError
from deltaprune.evaluate.page import cells, within
from paper_tables.beyond import rival_rows, rule_rows
from paper_tables.claims import Claim, Documents, claims
from paper_tables.comparisons import LEVEL
from provenance import NUMBERS, ROOT, footer, provenance

TABLES = ("table1", "table3", "table4", "table5", "early", "keep")
COMMANDS = {"bundled": "python -m training.publish FOLDER"}
COMMANDS |= {f"scenes_{table}": f"python runs/tables_scenes.py {table}" for table in TABLES}
RULES = f"""
## How a claim is decided

Accuracies are means in percent, differences are in points. The paper's means are over the benchmarks of its table;
misprinted averages of its Table 2 are replaced by the means of their rows.

* A claim that a method loses at most, or at least, so many points holds if the whole 95 % interval of the loss is on
  that side of the bound, and fails if it is on the other side.
* A claim that one method is better than another holds if it has the higher mean and p of the paired bootstrap, with
  Holm's correction within its table, is below {LEVEL:g}; it fails if the other method wins by the same test.
* Everything else is undecided.
"""
WHERE_TO_PRUNE = """### Where to prune

Three rules choose DTP's early layer: `first_peak` from the paper's text, `argmin` from its poster, and our `js`. The
table has the accuracy of DTP with keep=0.5 on validation questions, in brackets the change against no pruning. The rule
in bold made the plan that ships with the model.
"""
RIVALS = """### Δ against further rivals

Rivals that the paper does not compare Δ with, in three settings: at equal cost, with the stage after each of several
layers, and at each of several shares kept. A cell lists where Δ is better or worse than the rival; in brackets Δ's
accuracy minus the rival's, in points.
"""
HOLDS = {True: "yes", False: "**no**", None: "undecided"}


def read(numbers: Path) -> Documents:
    """Every result by its name.

    Raises:
        UserError: one is missing, from another model, or older than this page needs.
    """
    found = {}
    for name, command in COMMANDS.items():
        file = numbers / f"{name}.json"
        if not file.exists():
            raise UserError(f"{file} is missing: make it with `{command}`.")
        found[name] = json.loads(file.read_text(encoding="utf-8"))
    if "against_none" not in found["bundled"]["rows"][0]:
        raise UserError(f"{numbers / 'bundled.json'} has no intervals: make it again with `{COMMANDS['bundled']}`.")
    if len({(row["model"], row["benchmark"]) for each in found.values() for row in each["rows"]}) > 1:
        raise UserError(f"The results in {numbers} are of several models or benchmarks: make them again for one.")
    return found


def page(results: Documents) -> str:
    """The Markdown page, without its line of provenance."""
    found, source = claims(results), results["bundled"]["plan"]["source"]
    made_from = ", ".join(f"{name} (commit {results[name]['provenance']['commit']})" for name in COMMANDS)
    columns = ("claim", "where", "paper: Cobra", "paper: RoboMamba", "bundled model", "holds")
    parts = (
        "# Which of the paper's claims hold on the bundled model\n",
        _summary(found, results["scenes_table1"]["rows"][0]),
        *_table(columns, map(_row, found)),
        RULES,
        "## Beyond the paper\n",
        WHERE_TO_PRUNE,
        *_table(("rule", "early and late layer", "accuracy"), rule_rows(results)),
        f"\n{source['chosen_by']}.\n",
        RIVALS,
        *_table(("compared by", "rival", "Δ is better", "Δ is worse", "undecided"), rival_rows(results)),
        f"\nMade from {made_from}.\n",
    )
    return "\n".join(parts)


def _summary(found: Sequence[Claim], none: Mapping[str, Any]) -> str:
    """How many claims hold, and on what."""
    held, failed, open_ = (sum(each.holds is holds for each in found) for holds in (True, False, None))
    return (
        f"**{held} of {len(found)} claims hold**, {failed} do not, {open_} are undecided. Unpruned, the model answers "
        f"{within(none['mean'], none['interval'])} % of {none['n']:,} test questions of `{none['benchmark']}`; always "
        f"giving the commonest answer scores {none['floor']:.1f} %. Cobra and RoboMamba are far larger and were "
        "measured on photographs, so only differences within one model are compared.\n"
    )


def _row(claim: Claim) -> Sequence[str]:
    return claim.text, claim.where, claim.cobra, claim.robomamba, claim.ours, HOLDS[claim.holds]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [cells(header), cells(["---"] * len(header)), *map(cells, rows)]


def main(
    numbers: Annotated[Path, typer.Option(help="Where the results are.")] = NUMBERS,
    out: Annotated[Path, typer.Option(help="The page.")] = ROOT / "docs" / "evidence.md",
) -> None:
    """Write the page of evidence."""
    try:
        text = page(read(numbers))
    except UserError as error:
        raise SystemExit(str(error)) from None
    out.write_text(text + "\n" + footer(provenance()), encoding="utf-8")
    print(out)


if __name__ == "__main__":
    typer.run(main)
