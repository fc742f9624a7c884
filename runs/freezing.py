"""Does freezing hold, and why: plans from several sets of pictures on the same test questions, and the rows' movement.

    python runs/freezing.py

The shipped plan beside plans from other validation pictures of `scenes` (seeds 1 and 2) and from pictures of another
kind (`scenes1`: plain grounds, one typeface), each at three shares of the MACs. Writes numbers/freezing.md and .json,
and docs/freezing.png: how far each layer moves the rows, and what the shipped plan does there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import deltaprune as dp
from answering import answered
from deltaprune.analysis import Movement, movement
from deltaprune.benchmarks import messages_about, one_of_each, registry
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.calibrate import asked_together, budget, with_freezing
from deltaprune.cli._progress import Working
from deltaprune.evaluate import MethodResult
from deltaprune.evaluate.page import cells, number, signed, within
from deltaprune.evaluate.report import document
from deltaprune.evaluate.statistics import change
from deltaprune.steps import passes_of, stages_of
from provenance import NUMBERS, ROOT, footer, provenance, publish
from tables_scenes import text_tokens

SHARES = (0.606, 0.48, 0.33)
TEXT_TOKENS = 12  # of a question of `scenes`, in the figure
LEAST = 0.25  # the orders go down to this share
OTHERS = {
    "other pictures, seed 1": ("scenes", 1),
    "other pictures, seed 2": ("scenes", 2),
    "another kind": ("scenes1", 0),
}
COLOURS = {"full": "#3465a4", "write": "#73a6d9", "mean": "#c9d9ea", "skip": "#e6e6e6"}
SAYS = {"full": "rows are updated", "write": "only the state is written", "mean": "a mean state", "skip": "not seen"}


def plans(vlm: dp.VLM, processor: Any, pictures: int) -> dict[str, dp.Plan]:
    """The shipped plan, and one from each other set of pictures."""
    shipped = vlm.config.plan
    assert shipped is not None
    found = {"shipped": shipped}
    for name, (benchmark, seed) in OTHERS.items():
        with Working(name) as working:
            asked = asked_together(vlm, processor, messages_about(registry[benchmark](), "val", seed, pictures))
            source = {"benchmark": benchmark, "split": "val", "seed": seed}
            found[name] = with_freezing(shipped, vlm, asked, LEAST, source=source, say=working.say)
    return found


def tested(vlm: dp.VLM, processor: Any, plan: dp.Plan, questions: int, tokens: float) -> list[MethodResult]:
    """No pruning, then Freeze at each share, under one plan."""
    vlm.use_plan(plan)
    methods = ["none", *(budget(vlm.config, "freeze", share, tokens).label for share in SHARES)]
    return answered(vlm, processor, Scenes(), methods, "test", questions, "freeze")


def table(results: Mapping[str, Sequence[MethodResult]]) -> str:
    """Markdown: a row per plan, a column per share; in brackets the paired difference to no pruning."""
    none = document(next(iter(results.values())))["rows"][0]
    lines = [
        cells(["plan from", *(f"{100 * share:g} % of the MACs" for share in SHARES)]),
        cells(["---", *["---:"] * 3]),
    ]
    for name, (base, *rows) in results.items():
        moved = [change(row.records, base.records, Scenes().rules.summary) for row in rows]
        said = [f"{number(row.mean)} ({signed(vars(each))})" for row, each in zip(rows, moved, strict=True)]
        lines.append(cells([name, *said]))
    worst = [min(rows[k + 1].mean for rows in results.values()) for k in range(len(SHARES))]
    lines.append(cells(["*the worst*", *map(number, worst)]))
    head = f"No pruning: {within(none['mean'], none['interval'])} % of {none['n']:,} questions.\n\n"
    return head + "\n".join(lines) + "\n"


def chosen(vlm: dp.VLM) -> dict[str, Mapping[int, str]]:
    """What the shipped plan does in each layer at each share, and how many rows it keeps."""
    found = {}
    for share in SHARES:
        steps = budget(vlm.config, "freeze", share, TEXT_TOKENS).method.steps(vlm.shape)
        kept = "".join(f", {100 * stage.keep:.0f} % of rows" for stage in stages_of(steps))
        found[f"{100 * share:g} %{kept}"] = passes_of(steps)
    return found


def draw(moved: Movement, hows: Mapping[str, Mapping[int, str]]) -> Figure:
    """Movement by layer above, the choices of some budgets below."""
    n = len(moved.visual)
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.2])
    layers = range(n)
    above.plot(layers, 100 * moved.visual, marker="o", markersize=3.5, color="#3465a4", label="visual rows")
    above.plot(layers, 100 * moved.text, marker="s", markersize=3, color="#999999", label="text rows")
    above.set_ylabel("movement, % of the norm")
    most = 1.15 * 100 * max(moved.visual[1:].max(), moved.text[1:].max())
    if moved.visual[0] > most / 100:  # what enters the first layer has hardly any norm
        above.annotate(f"layer 0: {moved.visual[0]:,.0f}-fold", (0, most), xytext=(1.15, 0.93 * most), fontsize=8)
    above.set_ylim(0, most)
    above.legend(frameon=False)
    for y, how in enumerate(hows.values()):
        for l in layers:
            below.barh(y, 0.92, left=l - 0.46, height=0.8, color=COLOURS[how.get(l, "full")])
    below.set_yticks(range(len(hows)), list(hows))
    below.invert_yaxis()
    below.set_xlabel("layer")
    below.set_xticks(range(0, n, 2))
    below.spines[["left", "right", "top"]].set_visible(False)
    above.spines[["right", "top"]].set_visible(False)
    marks = [Patch(color=COLOURS[how], label=SAYS[how]) for how in COLOURS]
    figure.legend(handles=marks, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def main(
    questions: Annotated[int, typer.Option(help="Test questions for each plan and share.")] = 2000,
    pictures: Annotated[int, typer.Option(help="Validation pictures for each plan.")] = 64,
    numbers: Annotated[Path, typer.Option(help="Where the page goes.")] = NUMBERS,
    figure: Annotated[Path, typer.Option(help="Where the figure goes.")] = ROOT / "docs" / "freezing.png",
) -> None:
    """Calibrate, test, draw."""
    vlm, processor = dp.load("bundled")
    asked = one_of_each(Scenes(), "val", 0, 32)
    moved = movement(vlm, [processor(images=each.image, text=each.question) for each in asked])
    tokens = text_tokens(processor, Scenes(), questions)
    draw(moved, chosen(vlm)).savefig(figure, dpi=200)
    found = plans(vlm, processor, pictures)
    results = {name: tested(vlm, processor, plan, questions, tokens) for name, plan in found.items()}
    source = provenance()
    held = {
        "provenance": source,
        "movement": {"visual": moved.visual.tolist(), "text": moved.text.tolist(), "samples": moved.samples},
        "plans": {name: {**plan.to_dict(), "source": plan.source.get("freezing")} for name, plan in found.items()},
        "rows": {name: [row.to_dict() for row in rows] for name, rows in results.items()},
    }
    head = f"# Freeze under plans from several sets of {pictures} pictures\n\n"
    publish("freezing", held, head + table(results) + "\n" + footer(source), numbers)


if __name__ == "__main__":
    typer.run(main)
