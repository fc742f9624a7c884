"""From a trained folder to the model that ships: find its plan, measure it, write its card.

    python runs/publish_bundled.py checkpoints/bundled/annealed

The pruning layers come from the spread of Delta (eq. 7) on validation pictures. The paper's text (first peak) and its
poster (argmin) disagree on the early layer: both are tried on validation questions, the one that loses less is stored,
and both are reported. Test questions are touched once, at the end.
"""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

import deltaprune as dp
from bundled.card import card, table
from bundled.run import HEADS
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.calibrate import RULES, Spread, plan, spread
from deltaprune.evaluate import Row, evaluate
from deltaprune.models._folder import save_folder
from provenance import footer, provenance

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "src" / "deltaprune" / "models" / "_bundled"
METHODS = (
    "none",
    "dtp:keep=0.9",
    "dtp:keep=0.5",
    "dtp:keep=0.25",
    "random:keep=0.9",
    "random:keep=0.5",
    "random:keep=0.25",
    "dtp:keep=0.9,late=none",
    "dtp:keep=0.5,late=none",
    "random:keep=0.9,late=none",
    "random:keep=0.5,late=none",
    "uniform:keep=0.5",
)


def measure(vlm: dp.VLM, processor, methods: list, split: str, n: int, label: str) -> list[Row]:
    """`evaluate` on `scenes` with a progress bar."""
    with Progress() as progress:
        task = progress.add_task(label)
        return evaluate(
            vlm,
            processor,
            Scenes(),
            methods,
            split=split,
            limit=n,
            batch_size=96,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )


def curve_of(vlm: dp.VLM, processor, samples: int) -> Spread:
    """Eq. 7 on the first question of each of `samples` validation pictures."""
    seen: dict[str, object] = {}
    for sample in Scenes().samples("val", limit=7 * samples):
        seen.setdefault(sample.image_id, sample)
    chosen = list(seen.values())[:samples]
    return spread(vlm, (processor(images=s.image, text=s.question) for s in chosen))  # type: ignore[attr-defined]


def choose_plan(vlm: dp.VLM, processor, samples: int, questions: int) -> dp.Plan:
    """The plan of the rule that loses less at keep=0.5 on validation questions; its source says what each rule gave."""
    curve = curve_of(vlm, processor, samples)
    plans = {rule: plan(curve, rule, "scenes", "val", 0) for rule in RULES}
    methods = [dp.DTP(0.5, p.early, p.late) for p in plans.values()]
    rows = measure(vlm, processor, [dp.NoPruning(), *methods], "val", questions, "plan")
    tried = [
        {
            "rule": rule,
            "early": p.early,
            "late": p.late,
            "accuracy": round(row.mean, 2),
            "unpruned": round(rows[0].mean, 2),
        }
        for (rule, p), row in zip(plans.items(), rows[1:], strict=True)
    ]
    best = max(tried, key=lambda each: float(each["accuracy"]))["rule"]
    source = {**plans[best].source, "chosen_by": f"DTP keep=0.5 on {questions} validation questions", "tried": tried}
    return replace(plans[best], source=source)


def main(
    folder: Path,
    samples: Annotated[int, typer.Option(help="Validation pictures for the spread.")] = 64,
    validation: Annotated[int, typer.Option(help="Validation questions for the choice of the rule.")] = 2000,
    questions: Annotated[int, typer.Option(help="Test questions.")] = 5000,
) -> None:
    """Calibrate, ship, measure, describe."""
    vlm, processor = dp.load(folder)
    found = choose_plan(vlm, processor, samples, validation)
    config = replace(vlm.config, plan=found)
    save_folder(SHIPPED, vlm.model, processor.tokenizer, config)
    vlm, processor = dp.load("bundled")
    rows = measure(vlm, processor, list(METHODS), "test", questions, "test")
    source = provenance()
    numbers = {"provenance": source, "plan": asdict(found), "rows": [row.to_dict() for row in rows]}
    (ROOT / "numbers" / "bundled.json").write_text(json.dumps(numbers, indent=1) + "\n")
    page = f"# The bundled model on `scenes`\n\n{questions} test questions, percent right.\n\n"
    (ROOT / "numbers" / "bundled.md").write_text(page + table(rows) + "\n" + footer(source))
    shutil.copyfile(folder / "heads.safetensors", HEADS)
    (SHIPPED / "README.md").write_text(card(vlm.config, rows, source, footer(source)))


if __name__ == "__main__":
    typer.run(main)
