"""A model folder from the checkpoint of a run that has not ended, with the running average of its weights.

python -m training.snapshot hybrid checkpoints/hybrid out/snapshot
"""

from pathlib import Path
from typing import Annotated

import typer

from deltaprune.errors import UserError
from training.courses import course_of
from training.run import CHECKPOINT, Run


def main(
    course: Annotated[str, typer.Argument(help="bundled or hybrid.")],
    out: Annotated[Path, typer.Argument(help="The run's folder.")],
    folder: Annotated[Path, typer.Argument(help="Where the model goes.")],
) -> None:
    """At a constant rate the average is better than the weights themselves."""
    taken = course_of(course)
    run = Run(out, taken.recipe, "cpu", taken)
    if not run.resume():
        raise UserError(f"{out} holds no {CHECKPOINT}: give the folder of a run.")
    run.publish(folder, averaged=True)
    print(f"{run.pictures:,} pictures")


if __name__ == "__main__":
    typer.run(main)
