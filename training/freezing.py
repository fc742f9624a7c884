"""Find in which order the bundled model's layers are frozen, and keep it in the plan that ships.

    python -m training.freezing

The model's own answers to all questions about 64 validation pictures decide, see `deltaprune.calibrate.freezing`; no
label is read. `training.publish` does the same as a part of its work.
"""

from dataclasses import replace
from typing import Annotated

import typer

import deltaprune as dp
from deltaprune.benchmarks import messages_about
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.calibrate import asked_together, with_freezing
from deltaprune.checkpoints.folder import save_folder
from deltaprune.cli._progress import Working
from runs.provenance import ROOT

SHIPPED = ROOT / "src" / "deltaprune" / "models" / "_bundled"
BUDGET = 0.2  # the order goes down to this share; every larger budget takes the beginning of it


def frozen(vlm: dp.VLM, processor, plan: dp.Plan, pictures: int, budget: float = BUDGET) -> dp.Plan:
    """The plan with its order down to a budget, from so many validation pictures."""
    with Working("freezing") as working:
        asked = asked_together(vlm, processor, messages_about(Scenes(), "val", 0, pictures))
        source = {"benchmark": Scenes.name, "split": "val", "seed": 0}
        return with_freezing(plan, vlm, asked, budget, source=source, say=working.say)


def main(pictures: Annotated[int, typer.Option(help="Validation pictures.")] = 64) -> None:
    """Calibrate the shipped model and write its folder again; the weights stay as they are."""
    vlm, processor = dp.load("bundled")
    plan = vlm.config.plan
    assert plan is not None
    save_folder(
        SHIPPED, vlm.model, processor.tokenizer, replace(vlm.config, plan=frozen(vlm, processor, plan, pictures))
    )


if __name__ == "__main__":
    typer.run(main)
