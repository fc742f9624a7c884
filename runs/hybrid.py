"""Pruning and freezing in place on a trained hybrid, on `scenes`: what DTP loses there, and what Freeze does.

    python runs/hybrid.py checkpoints/hybrid/trained

The folder is what `python -m training.train hybrid` writes. The plan is calibrated first, on validation pictures, and
kept in out/hybrid with the answers: the same command goes on where it was broken off. Writes numbers/hybrid.md and
.json.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, cast

import typer

from answering import answered
from deltaprune.analysis.parts import here
from deltaprune.benchmarks import one_of_each
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.calibrate import budget, load_plan, save_plan
from deltaprune.cli._freezing import frozen_in_place
from deltaprune.cli._measuring import Measuring, plan_in_place
from deltaprune.cli._progress import Working
from deltaprune.cost import share_of
from deltaprune.errors import UserError
from deltaprune.evaluate import MethodResult
from deltaprune.evaluate.page import cells, number, p_value, signed, within
from deltaprune.evaluate.report import document, write_report
from deltaprune.hosted.config import HostedConfig
from deltaprune.hosted.folder import load_hosted
from deltaprune.hosted.model import Hosted
from deltaprune.hosted.processor import HostedProcessor
from deltaprune.inplace.target import plan_by_depth
from deltaprune.methods import parse
from paper_tables.comparisons import LEVEL, sentences
from paper_tables.entries import NONE, Entry
from provenance import NUMBERS, ROOT, footer, provenance, publish
from tables_scenes import compared

KEEPS = (0.9, 0.5, 0.25)
SHARES = (0.75, 0.6, 0.48)
LEAST = 0.4  # the order of freezing goes down to this share
BATCH = 16  # questions that run at once: each is read with its picture
RIVALS = {
    "FastV": "fastv",
    "DART": "dart:exact_budget=true",
    "DivPrune": "divprune",
    "VTW, nearest layer": "vtw",
    "Freeze": "freeze",
}


def text_tokens(processor: HostedProcessor, questions: int) -> float:
    """Mean text tokens of the prompts, template included."""
    rules, samples = Scenes().rules, Scenes().samples("test", 0, questions)
    prompts = [processor.prompt(rules.message(sample), image=False) for sample in samples]
    return fmean(len(processor.tokenizer.encode(prompt, add_special_tokens=False).ids) for prompt in prompts)


def dtp_entries(config: HostedConfig, tokens: float) -> list[Entry]:
    """DTP at the paper's relative depths against everything else at its cost."""
    plan = plan_by_depth(len(config.layers))
    where = f"early={plan.early},late={plan.late}"
    moved = (config.plan.early, config.plan.late) != (plan.early, plan.late)
    entries = []
    for keep in KEEPS:
        first = f"dtp:keep={keep},{where}"
        share = share_of(config, parse(first), tokens)
        block = f"keep={keep}, {100 * share:.1f} % of the MACs"
        entries += [
            Entry("DTP, by depth", first, block),
            Entry("random tokens, by depth", f"random:keep={keep},{where}", block),
            Entry("evenly spread tokens, by depth", f"uniform:keep={keep},{where}", block),
        ]
        entries += _at(config, tokens, share, block, {"DTP, calibrated": "dtp", **RIVALS} if moved else RIVALS)
    return entries


def freeze_entries(config: HostedConfig, tokens: float) -> list[Entry]:
    """Freeze against everything else at shares of the MACs."""
    others = {"DTP": "dtp", **RIVALS, "random tokens": "random", "evenly spread tokens": "uniform"}
    rivals = {"Freeze": "freeze", **others}
    return [entry for share in SHARES for entry in _at(config, tokens, share, f"{100 * share:g} % of the MACs", rivals)]


def _at(config: HostedConfig, tokens: float, share: float, block: str, rivals: dict[str, str]) -> list[Entry]:
    """Rivals at a share; one that cannot go so low is left out."""
    entries = []
    for label, method in rivals.items():
        try:
            entries.append(Entry(label, budget(config, method, share, tokens).label, block))
        except UserError:
            continue
    return entries


def calibrated(vlm: Hosted, processor: Any, path: Path, samples: int, pictures: int) -> Hosted:
    """The model with its own plan: early and late by the paper's rule, and the order of freezing.

    Args:
        path: where the plan is kept.
        samples: validation questions, each about another picture, for early and late.
        pictures: validation pictures whose questions decide the order of freezing.
    """
    if not path.exists():
        with Working("calibrating") as working:
            asked = one_of_each(Scenes(), "val", 0, samples)
            on = Measuring(cast(Any, vlm), processor, Scenes(), asked, working, here)
            plan = plan_in_place(on, "first_peak", 0.003, {"benchmark": "scenes", "split": "val", "seed": 0})
            plan = frozen_in_place(plan, on, ("val", 0, pictures), LEAST)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_plan(plan, vlm.config, path)
    return vlm.use_plan(load_plan(path, vlm.config))


def table(entries: Sequence[Entry], rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: a row per entry."""
    skills = list(rows[0]["by_skill"])
    header = ["method", "setting", "MACs", *skills, "mean", "against `none`", "p", "same answers"]
    lines, block = [header, ["---", "---", *["---:"] * (len(header) - 2)]], ""
    for entry, row in zip(entries, rows, strict=True):
        if entry.block != block:
            block = entry.block
            lines.append([f"**{block}**", *[""] * (len(header) - 1)])
        against = row["against_none"]
        lines.append([
            entry.label,
            f"`{entry.method}`",
            f"{100 * row['macs_share']:.1f} %",
            *(number(row["by_skill"][skill]) for skill in skills),
            within(row["mean"], row["interval"]),
            "" if entry.method == NONE else signed(against),
            "" if entry.method == NONE else p_value(against["p"]),
            f"{row['agreement']:.1f} %",
        ])  # fmt: skip
    return "\n".join(map(cells, lines)) + "\n"


def page(
    vlm: Hosted, entries: Sequence[Entry], rows: Sequence[MethodResult], said: Sequence[str], pictures: int
) -> str:
    """Markdown without the line of provenance; `pictures` are those that the model was trained on."""
    plan, by_depth = vlm.config.plan, plan_by_depth(len(vlm.config.layers))
    told = document(rows)["rows"]
    head = (
        f"A Qwen3.5 of {len(vlm.config.layers)} layers (gated DeltaNet, every fourth attention), trained on "
        f"{pictures:,} pictures and pruned in place in transformers' own model. {told[0]['n']:,} test questions, the "
        "same in every row; percent right.\n\n"
        f"DTP by depth prunes after {by_depth.early} and {by_depth.late} layers, calibrated after {plan.early} and "
        f"{plan.late}. The first row of a block is compared with the others by the paired bootstrap; a difference is "
        f"named where p, after Holm's correction for all comparisons on this page, is below {LEVEL:g}.\n"
    )
    return "\n".join(["# A trained hybrid, on `scenes`\n", head, table(entries, told), *(f"{line}\n" for line in said)])


def main(
    folder: Annotated[Path, typer.Argument(help="The trained folder.")],
    questions: Annotated[int, typer.Option(help="Test questions per row, the same in every row.")] = 1000,
    samples: Annotated[int, typer.Option(help="Validation questions for early and late.")] = 32,
    pictures: Annotated[int, typer.Option(help="Validation pictures for the order of freezing.")] = 8,
    out: Annotated[Path, typer.Option(help="Where the plan and the answers are kept.")] = ROOT / "out" / "hybrid",
    numbers: Annotated[Path, typer.Option(help="Where the page goes.")] = NUMBERS,
) -> None:
    """Calibrate, answer, compare."""
    vlm, processor = load_hosted(folder)
    calibrated(vlm, processor, out / "plan.json", samples, pictures)
    tokens = text_tokens(processor, questions)
    entries = [Entry("no pruning", NONE), *dtp_entries(vlm.config, tokens), *freeze_entries(vlm.config, tokens)]
    methods = list(dict.fromkeys(entry.method for entry in entries))
    answers = answered(vlm, processor, Scenes(), methods, "test", questions, "hybrid", out, BATCH)
    write_report(out, answers)
    row_of = dict(zip(methods, answers, strict=True))
    rows = [row_of[entry.method] for entry in entries]
    found = compared(entries, rows, Scenes().rules.summary)
    said = sentences(found, {entry.method: entry.label for entry in entries})
    source = provenance()
    held = {"provenance": source, "plan": vlm.config.plan.to_dict(), "entries": [asdict(each) for each in entries]}
    held |= {**document(rows), "comparisons": [each.to_dict() for each in found], "said": said}
    held |= {"training": json.loads((folder / "about.json").read_text())}
    text = page(vlm, entries, rows, said, held["training"]["pictures"])
    publish("hybrid", held, text + "\n" + footer(source), numbers)


if __name__ == "__main__":
    typer.run(main)
