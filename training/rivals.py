"""Calibrate ShortV and FitPrune on the bundled model as their papers say, and keep it in the plan that ships.

    python -m training.rivals

On the 64 validation pictures from which Freeze's order comes. ShortV's criterion depends on the question, so every
question about each is asked; FitPrune's statistics are of attention, one question about each will do. No label is read.
`training.publish` does the same as a part of its work.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

import typer

import deltaprune as dp
from deltaprune.benchmarks import messages_about, one_of_each
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.calibrate import asked_together, contribution, fitting
from deltaprune.calibrate.plans import rounded
from deltaprune.checkpoints.folder import save_folder
from deltaprune.cli._progress import Working
from deltaprune.mllm.processor import Inputs
from training.freezing import SHIPPED

BATCH = 8  # pictures that run at once


def with_rivals(vlm: dp.VLM, processor, plan: dp.Plan, pictures: int) -> dp.Plan:
    """The plan with what the two methods' own calibrations find."""
    where = Scenes(), "val", 0, pictures
    with Working("each layer's contribution, for ShortV") as working:
        lc = contribution(vlm, asked_together(vlm, processor, messages_about(*where)))
        working.say("attention, for FitPrune")
        curves = fitting(vlm, _one_each(vlm, processor, where))
    found = {name: rounded(values) for name, values in {"shortv": lc, **curves}.items()}
    about = {"benchmark": Scenes.name, "split": "val", "seed": 0, "pictures": pictures}
    return replace(plan, found={**plan.found, **found}, source={**plan.source, "found": about})


def _one_each(vlm: dp.VLM, processor, where: tuple[Scenes, str, int, int]) -> Iterator[Inputs]:
    """One question about each picture."""
    asked = one_of_each(*where)
    for i in range(0, len(asked), BATCH):
        some = asked[i : i + BATCH]
        texts = [Scenes().rules.message(each) for each in some]
        yield processor(images=[each.image for each in some], text=texts).to(vlm.device)


def main(pictures: Annotated[int, typer.Option(help="Validation pictures.")] = 64) -> None:
    """Calibrate the two on the shipped model and write its folder again; all else stays as it is."""
    vlm, processor = dp.load("bundled")
    plan = vlm.config.plan
    assert plan is not None
    found = with_rivals(vlm, processor, plan, pictures)
    save_folder(SHIPPED, vlm.model, processor.tokenizer, replace(vlm.config, plan=found))


if __name__ == "__main__":
    typer.run(main)
