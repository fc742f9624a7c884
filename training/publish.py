"""From a trained folder to the model that ships: find its plan, measure it, write its card.

    python -m training.publish checkpoints/bundled/trained

The pruning layers come from validation pictures: by the spread of Delta (eq. 7), where the paper's text (first peak)
and its poster (argmin) disagree on the early layer, and by the divergence of the answers (ours). All three are tried
on validation questions and reported. Test questions are touched once, at the end.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

import deltaprune as dp
from deltaprune.benchmarks import one_of_each
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.calibrate import ETA, NAMES, RULES, divergence, measure, plan
from deltaprune.calibrate.plans import JS
from deltaprune.checkpoints.folder import save_folder
from deltaprune.evaluate.paper import nearest_layer
from deltaprune.evaluate.report import document
from deltaprune.evaluate.statistics import change
from runs.answering import answered
from runs.provenance import NUMBERS, footer, provenance, publish
from training.card import card, table
from training.freezing import BUDGET, SHIPPED, frozen
from training.rivals import with_rivals


def tested(n_layers: int) -> list[str]:
    """What the card reports; withdrawal at the paper's two depths, 45/64 and 32/64."""
    withdrawn = [f"vtw:after={nearest_layer(after, n_layers)}" for after in (45, 32)]
    both = [f"{name}:keep={keep}" for name in ("dtp", "random") for keep in ("0.9", "0.5", "0.25")]
    early = [f"{name}:keep={keep},late=none" for name in ("dtp", "random") for keep in ("0.9", "0.5")]
    return ["none", *withdrawn, *both, *early, "uniform:keep=0.5"]


def plans_of(vlm: dp.VLM, processor, samples: int) -> dict[str, dp.Plan]:
    """Each rule's plan, all from the same `samples` validation pictures, one question about each."""
    asked = one_of_each(Scenes(), "val", 0, samples)
    batches = [processor(images=s.image, text=s.question) for s in asked]
    curves, moved = measure(vlm, batches), divergence(vlm, batches)
    return {rule: plan(curves.spread, rule, Scenes.name, "val", 0, curves.withdrawal, ETA, moved) for rule in NAMES}


def choose_plan(vlm: dp.VLM, processor, samples: int, questions: int) -> dp.Plan:
    """The paper's rule that loses less at keep=0.5 on validation questions, unless ours is better by a paired test.

    The plan's source says what each rule gave, and the test's result.
    """
    plans = plans_of(vlm, processor, samples)
    methods = {rule: dp.DTP(0.5, p.early, p.late) for rule, p in plans.items()}
    asked = list(dict.fromkeys([dp.NoPruning(), *methods.values()]))  # rules may agree
    rows = dict(zip(asked, answered(vlm, processor, Scenes(), asked, "val", questions, "plan"), strict=True))
    none, row_of = rows[asked[0]], {rule: rows[method] for rule, method in methods.items()}
    tried = [
        {
            "rule": rule,
            "early": p.early,
            "late": p.late,
            "accuracy": round(row_of[rule].mean, 2),
            "unpruned": round(none.mean, 2),
        }
        for rule, p in plans.items()
    ]
    papers = max(RULES, key=lambda rule: row_of[rule].mean)
    against = change(row_of[JS].records, row_of[papers].records, Scenes().rules.summary)
    better = against.points > 0 and against.p is not None and against.p < 0.05
    said = (
        f"DTP keep=0.5 on {questions} validation questions: the paper's better rule is {papers}; ours against it "
        f"{against.points:+.2f} points, paired bootstrap p = {1 if against.p is None else against.p:.3f}"
    )
    chosen = plans[JS if better else papers]
    return replace(chosen, source={**chosen.source, "chosen_by": said, "tried": tried})


def main(
    folder: Path,
    samples: Annotated[int, typer.Option(help="Validation pictures for the spread.")] = 64,
    validation: Annotated[int, typer.Option(help="Validation questions for the choice of the rule.")] = 2000,
    questions: Annotated[int, typer.Option(help="Test questions.")] = 10_000,
    budget: Annotated[float, typer.Option(help="Share of the MACs down to which layers are frozen.")] = BUDGET,
) -> None:
    """Calibrate, ship, measure, describe."""
    vlm, processor = dp.load(folder)
    found = frozen(vlm, processor, choose_plan(vlm, processor, samples, validation), samples, budget)
    found = with_rivals(vlm, processor, found, samples)
    config = replace(vlm.config, plan=found)
    save_folder(SHIPPED, vlm.model, processor.tokenizer, config)
    vlm, processor = dp.load("bundled")
    rows = answered(vlm, processor, Scenes(), tested(vlm.shape.n_layers), "test", questions, "test")
    source = provenance()
    measured = {"provenance": source, "plan": found.to_dict(), **document(rows)}
    page = f"# The bundled model on `{Scenes.name}`\n\n{questions:,} test questions, percent right.\n\n"
    publish("bundled", measured, page + table(rows) + "\n" + footer(source), NUMBERS)
    shutil.copyfile(folder / "log.jsonl", NUMBERS / "bundled_training.jsonl")
    (SHIPPED / "README.md").write_text(card(vlm.config, rows, source, footer(source)))


if __name__ == "__main__":
    typer.run(main)
