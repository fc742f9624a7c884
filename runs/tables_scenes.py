"""The paper's Tables 1, 3, 4, 5 and five of ours on the bundled model and `scenes`.

    python runs/tables_scenes.py table1     # or table3, table4, table5; early, keep; freeze, freeze_others, budgets
    python runs/tables_scenes.py table1 --benchmark scenes1

Every row answers the same questions. Writes numbers/scenes_table1.md and .json. Answers are kept in
out/tables/scenes_table1: the same command goes on where it was broken off.
"""

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import deltaprune as dp
from answering import answered
from deltaprune.benchmarks import Benchmark, registry
from deltaprune.cost import macs
from deltaprune.evaluate import MethodResult
from deltaprune.evaluate.report import document, write_report
from deltaprune.evaluate.statistics import Summarise
from deltaprune.evaluate.work import mean_text_tokens
from deltaprune.methods import parse
from paper_tables.comparisons import Comparison, compare, sentences
from paper_tables.entries import TABLES, Entry, paper_means
from paper_tables.page import page
from provenance import NUMBERS, ROOT, footer, provenance, publish


class Name(StrEnum):
    """The tables there are."""

    TABLE1 = "table1"
    TABLE3 = "table3"
    TABLE4 = "table4"
    TABLE5 = "table5"
    EARLY = "early"
    KEEP = "keep"
    FREEZE = "freeze"
    FREEZE_OTHERS = "freeze_others"
    BUDGETS = "budgets"


def text_tokens(processor: Any, benchmark: Benchmark, questions: int) -> float:
    """Mean text tokens of the prompts, template included; what the budgets of Table 1 are meant for."""
    rules, samples = benchmark.rules, benchmark.samples("test", 0, questions)
    return mean_text_tokens(processor, [processor.prompt(rules.message(sample)) for sample in samples])


def compared(entries: Sequence[Entry], rows: Sequence[MethodResult], summary: Summarise) -> list[Comparison]:
    """Each block's first entry, DTP or Freeze, against the others of its block."""
    row_of = {row.method: row for row in rows}
    blocks = []
    for name in dict.fromkeys(entry.block for entry in entries if entry.block):
        first, *others = [row_of[entry.method] for entry in entries if entry.block == name]
        blocks.append((name, first, others))
    return compare(blocks, summary)


def make(
    name: str, vlm: dp.VLM, processor: Any, benchmark: Benchmark, questions: int, out: Path, numbers: Path
) -> None:
    """Answer one table's questions and write its page and its JSON."""
    title, table = TABLES[name]
    tokens = text_tokens(processor, benchmark, questions)
    entries = table(vlm.config, tokens)
    file, methods = f"scenes_{name}", [entry.method for entry in entries]
    rows = answered(vlm, processor, benchmark, methods, "test", questions, file, out / file)
    write_report(out / file, rows)
    found = compared(entries, rows, benchmark.rules.summary)
    said = sentences(found, {entry.method: entry.label for entry in entries})
    mega_macs = [macs(vlm.config, parse(entry.method), tokens, "paper").total / 1e6 for entry in entries]
    made, source = document(rows), provenance(vlm.device.type)
    text = page(f"{title}, on `{benchmark.name}`", entries, made["rows"], mega_macs, paper_means(name), said)
    held = {"provenance": source, "entries": [asdict(entry) for entry in entries], **made}
    held |= {"comparisons": [each.to_dict() for each in found], "said": said}
    publish(file, held, text + "\n" + footer(source), numbers)


def main(
    table: Annotated[Name, typer.Argument(help="Which table.")],
    questions: Annotated[int, typer.Option(help="Test questions per row, the same in every row.")] = 10_000,
    benchmark: Annotated[str, typer.Option(help="scenes or scenes1: whose pictures.")] = "scenes",
    model: Annotated[str, typer.Option(help="A known model or a model folder.")] = "bundled",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Where the answers are kept.")] = ROOT / "out" / "tables",
    numbers: Annotated[Path, typer.Option(help="Where the page goes.")] = NUMBERS,
) -> None:
    """One table of the paper, on `scenes`."""
    vlm, processor = dp.load(model)
    make(table.value, vlm.to(device=device), processor, registry[benchmark](), questions, out, numbers)


if __name__ == "__main__":
    typer.run(main)
