"""What `plot tradeoff` reads: the report.json files of evaluations."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deltaprune.errors import UserError

MAKE = "give the report.json of deltaprune evaluate --out DIR"
ABOUT = ("model", "benchmark", "protocol", "split", "seed")
KNOBS = ("budget=", "keep=", "share=", "after=")  # see `calibrate.budget`
READ = (*ABOUT, "method", "n", "mean", "interval", "macs_share", "label")

Point = tuple[float, float, float, float]


def read_reports(files: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of one or more reports about one model on one benchmark; of a method in several, the one with most n.

    Raises:
        UserError: no file, one that is not a report, or reports about different things.
    """
    if not files:
        raise UserError(f"plot tradeoff needs a report: {MAKE}.")
    rows: dict[str, dict[str, Any]] = {}
    first: dict[str, Any] = {}
    for file in files:
        for row in _rows(file):
            first = first or row
            for name in ABOUT:
                if row[name] != first[name]:
                    raise UserError(
                        f"{file!r} has {name} {row[name]!r} beside {first[name]!r}: a figure is about one {name}, so "
                        "draw them apart."
                    )
            if row["method"] not in rows or row["n"] > rows[row["method"]]["n"]:
                rows[row["method"]] = row
    return list(rows.values())


def curves(rows: Sequence[dict[str, Any]]) -> tuple[dict[str, list[Point]], Point | None]:
    """Points (share, accuracy, low, high) by method, its budget left out ("dtp, late=none"), and the unpruned one."""
    from deltaprune.evaluate.report import UNPRUNED

    found: dict[str, list[Point]] = {}
    unpruned = None
    for row in rows:
        low, high = row["interval"] or (row["mean"], row["mean"])
        point = (row["macs_share"], row["mean"], low, high)
        if row["method"].strip() in UNPRUNED:
            unpruned = point
        else:
            found.setdefault(_series(row["method"]), []).append(point)
    return found, unpruned


def heading(rows: Sequence[dict[str, Any]]) -> str:
    """The figure's title."""
    first, least, most = rows[0], min(row["n"] for row in rows), max(row["n"] for row in rows)
    asked = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    partial = next((f", {row['label']}" for row in rows if row["label"]), "")
    return (
        f"Accuracy against cost, {first['model']} on {first['benchmark']}\n"
        f"{asked} questions{partial}, protocol {first['protocol']}"
    )


def _series(method: str) -> str:
    """A method without what sets its cost: the first of its fields budget, keep, share and after."""
    name, *fields = (part.strip() for part in re.split("[:,;()]", method))
    knob = next((knob for knob in KNOBS for field in fields if field.startswith(knob)), None)
    return ", ".join([name, *(field for field in fields if field and not (knob and field.startswith(knob)))])


def _rows(file: str) -> list[dict[str, Any]]:
    """The rows of one report."""
    document = read_json(file, MAKE)
    rows = document.get("rows") if isinstance(document, dict) else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{file!r} is not a report, because it has no rows: {MAKE}.")
    for row in rows:
        for name in READ:
            if name not in row:
                raise UserError(f"{file!r} is not a report, because a row lacks {name!r}: {MAKE}.")
    return rows


def read_json(file: str, make: str) -> Any:
    """The document in a JSON file.

    Args:
        file: its path.
        make: how such a file is made, for the message.

    Raises:
        UserError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"The report {file!r} cannot be read ({error.strerror or error}): {make}.") from error
    except ValueError as error:
        raise UserError(f"{file!r} is not a report, because it is not JSON ({error}): {make}.") from error
