"""What a command prints for other programs: CSV from its JSON document, LaTeX and Markdown from its tables."""

import csv as writer
import json
import re
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from deltaprune.cli._grid import Grid, escaped

SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
SPECIAL |= {letter: f"\\{letter}" for letter in "&%$#_{}"}


def csv(document: Any) -> str:
    """A line for each row of the document, under the names that the rows have in JSON.

    What a row nests is named by dots (`macs.total`), a list of numbers or words is one cell with blanks between them,
    and null is an empty cell. An object at the end that shares no name with the rows, as `bench` has one, is left out.
    """
    rows = [_flat(row) for row in _rows(document)]
    rows = [row for row in rows if row.keys() & rows[0].keys()]
    text = StringIO()
    table = writer.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _rows(document: Any) -> list[Mapping[str, Any]]:
    """A list of rows as it is; several named lists one below the other; any other object is one row."""
    if isinstance(document, list):
        return document
    if all(isinstance(each, list) for each in document.values()):
        return [{"kind": kind, **row} for kind, rows in document.items() for row in rows]
    return [document]


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: _cell(value)}
    return flat


def _cell(value: Any) -> Any:
    if isinstance(value, list | tuple):
        plain = all(isinstance(each, str | int | float) for each in value)
        return " ".join(map(str, value)) if plain else json.dumps(value)
    return json.dumps(value) if isinstance(value, bool) else value


def latex(grid: Grid) -> str:
    """A tabular in the style of booktabs; the title, and what its columns mean, are comments above it."""
    columns = "".join("l" if i < grid.n_left else "r" for i in range(len(grid.header)))
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _latex_line(grid.header), r"\midrule"]
    lines += [r"\midrule" if line is None else _latex_line(line) for line in grid.lines[grid.first : grid.last]]
    comments = [f"% {' '.join(text.split())}" for text in (grid.title, grid.about) if text]
    return "\n".join([*comments, *lines, r"\bottomrule", r"\end{tabular}"])


def _latex_line(cells: Sequence[Any]) -> str:
    return " & ".join(re.sub(r"[\\~^&%$#_{}]", lambda found: SPECIAL[found[0]], _text(c)) for c in cells) + r" \\"


def md(grid: Grid) -> str:
    """A table of GitHub's Markdown, its title above and its note below."""
    sides = ["---" if i < grid.n_left else "---:" for i in range(len(grid.header))]
    shown = [line for line in grid.lines[grid.first : grid.last] if line is not None]
    table = "\n".join("| " + " | ".join(map(_md, line)) + " |" for line in [grid.header, sides, *shown])
    return "\n\n".join(part for part in (grid.title and f"**{_md(grid.title)}**", table, _md(grid.about)) if part)


def _md(cell: Any) -> str:
    return _text(cell).replace("|", "\\|")


def _text(cell: Any) -> str:
    """A cell on one line, without letters that a terminal would obey."""
    return " ".join(escaped(cell).plain.split("\n"))


TEXTS = {"latex": latex, "md": md}
