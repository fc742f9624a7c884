"""From rows to a report: `document` computes intervals, tests and the paper's numbers, `markdown` and `csv` format it.

    write_report("out/run", rows)  # report.md, report.csv, report.json

A document is plain JSON, so that a `report.json` can be read back and formatted again.
"""

import json
import os
from collections.abc import Mapping, Sequence
from csv import DictWriter
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

from deltaprune.benchmarks import registry
from deltaprune.evaluate.page import UNPRUNED
from deltaprune.evaluate.page import markdown as markdown
from deltaprune.evaluate.paper import paper_number
from deltaprune.evaluate.results import MethodResult
from deltaprune.evaluate.statistics import Summarise, change, interval

FORMAT = 1


def write_report(folder: str | Path, rows: Sequence[MethodResult], summary: Summarise | None = None) -> dict[str, Any]:
    """Write report.md, report.csv and report.json into a folder, each whole or not at all; returns the document.

    Args:
        folder: made where it is missing.
        rows, summary: as for `document`.

    Raises:
        OSError: a file cannot be written.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    made = document(rows, summary)
    texts = {"md": markdown(made), "csv": csv(made), "json": json.dumps(made, indent=1, ensure_ascii=False) + "\n"}
    for suffix, text in texts.items():
        file = Path(folder) / f"report.{suffix}"
        partial = file.with_name(f"{file.name}.part")
        partial.write_text(text, encoding="utf-8", newline="\n")
        os.replace(partial, file)
    return made


def document(rows: Sequence[MethodResult], summary: Summarise | None = None) -> dict[str, Any]:
    """The report as plain JSON: every row's own fields and

    `interval`: [low, high] of `mean`, 95 %; null with fewer than two pictures.
    `against_none`: `statistics.Change` to the unpruned model's row, null if that is not among the rows.
    `paper`: the paper's number, null if it has none for this setting.
    `label`: "partial: n of N" if not the whole split was answered, else "".

    Args:
        rows: of one run or of several.
        summary: the protocol's; None looks it up by the rows' benchmark and protocol.

    Raises:
        UserError: a benchmark that is not registered, and no summary.
    """
    return {"format": FORMAT, "rows": [_measured(row, rows, summary) for row in rows]}


def _measured(row: MethodResult, rows: Sequence[MethodResult], summary: Summarise | None) -> dict[str, Any]:
    if summary is None:
        summary = registry[row.benchmark].protocols[row.protocol].summary
    none = next((other for other in rows if other.method.strip() in UNPRUNED and _about(other) == _about(row)), None)
    found = interval(row.records, summary)
    return row.to_dict() | {
        "interval": None if found is None else list(found),
        "against_none": None if none is None else asdict(change(row.records, none.records, summary)),
        "paper": paper_number(row.model, row.method, row.benchmark, row.protocol, row.note),
        "label": _label(row),
    }


def _about(row: MethodResult) -> tuple[object, ...]:
    """What two rows must share to be compared."""
    return row.model, row.benchmark, row.protocol, row.split, row.seed, row.note


def _label(row: MethodResult) -> str:
    if not row.partial:
        return ""
    return f"partial: {row.n:,} of {row.total:,}" if row.total is not None else f"partial: {row.n:,}"


def csv(document: Mapping[str, Any]) -> str:
    """One line per method; a number that does not exist is an empty cell."""
    lines = [flat(row) for row in document["rows"]]
    header = list(dict.fromkeys(name for line in lines for name in line))
    text = StringIO()
    writer = DictWriter(text, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the document without lists or objects in it."""
    low, high = row["interval"] or (None, None)
    against = row["against_none"] or dict.fromkeys(("points", "low", "high", "p", "mcnemar"))
    names = ("model", "benchmark", "protocol", "split", "seed", "note", "method", "n", "label")
    flat = {name: row[name] for name in names}
    flat |= {"accuracy": row["mean"], "low": low, "high": high}
    flat |= {f"against_none_{name}": against[name] for name in ("points", "low", "high", "p", "mcnemar")}
    flat |= {name: row[name] for name in ("agreement", "macs_share", "text_tokens")}
    flat |= {"kept": " ".join(map(str, row["kept"] or ())), "ms": row["ms"] or None, "errors": row["errors"]}
    flat |= {"paper": row["paper"], "guessing": row["floor"]}
    flat |= {f"skill: {name}": value for name, value in row["by_skill"].items()}
    return flat | {f"metric: {name}": value for name, value in row["metrics"].items()}
