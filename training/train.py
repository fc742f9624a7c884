"""Train the bundled model from nothing, or a small hybrid; the same script on CPU and GPU.

    python -m training.train                                    # checkpoints under checkpoints/bundled
    python -m training.train --device cuda --workers 14
    python -m training.train hybrid                             # a Qwen3.5 of transformers' own, on the CPU

The schedule counts pictures, not minutes, and the checkpoint holds all of a run. So a run that was killed goes on with
the same command, and ends with the weights of one that was not. `OUT/trained` is a model folder for `deltaprune.load`.
"""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.data import DataLoader

from training.courses import course_of
from training.lessons import KINDS, Lessons
from training.recipe import CONFIG
from training.run import Run


def main(
    course: Annotated[str, typer.Argument(help="bundled or hybrid.")] = "bundled",
    device: str = "cpu",
    workers: Annotated[int, typer.Option(help="Processes that draw pictures.")] = 1,
    out: Annotated[Path | None, typer.Option(help="checkpoints/ and the model's name by default.")] = None,
    pictures: Annotated[int | None, typer.Option(help="Pictures in all; the schedule follows them.")] = None,
    watch_every: Annotated[float, typer.Option(help="Minutes between two looks at validation.")] = 10,
    save_every: Annotated[float, typer.Option(help="Minutes between two checkpoints.")] = 5,
) -> None:
    """Train, log every 50 steps, look at validation, save, and end with a model folder."""
    taken = course_of(course)
    recipe = taken.recipe if pictures is None else replace(taken.recipe, pictures=pictures)
    out = out or Path("checkpoints") / course
    run = Run(out, recipe, device, taken)
    taken_up = run.resume()
    sizes = recipe.batch, recipe.questions, recipe.drills
    lessons = Lessons(CONFIG, run.tokenizer, *sizes, start=run.pictures, vary_from=recipe.vary_from)
    stream = iter(DataLoader(lessons, batch_size=None, num_workers=workers, prefetch_factor=4))
    begin, before, saved, watched, recent = time.monotonic(), run.seconds, time.monotonic(), run.seconds, []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("taken up" if taken_up else "fresh", total=recipe.pictures, completed=run.pictures)
        while run.pictures < recipe.pictures:
            recent.append(run.step(next(stream)))
            run.seconds = before + time.monotonic() - begin
            if len(recent) == 50:
                note(run, summary(recent), progress)
                recent = []
            if run.seconds - watched > 60 * watch_every:
                watched = run.seconds
                note(run, look(run), progress)
            if time.monotonic() - saved > 60 * save_every:
                run.save()
                saved = time.monotonic()
            progress.update(task, completed=run.pictures, description=f"{run.pictures:,} pictures")
    note(run, look(run))
    run.save()
    run.publish(out / "trained")


def note(run: Run, entry: dict, progress: Progress | None = None) -> None:
    """Add an entry to the log and print it."""
    run.log.append({"pictures": run.pictures, "minutes": round(run.seconds / 60, 1), **entry})
    line = json.dumps(run.log[-1])
    print(line) if progress is None else progress.console.print(line, soft_wrap=True, markup=False, highlight=False)


def summary(recent: list[dict[str, float]]) -> dict[str, float]:
    """Means of the last steps."""
    keys = [key for key in ("answers", "exits", "dense", "drift", *KINDS) if any(key in result for result in recent)]
    return {key: round(float(np.mean([r[key] for r in recent if key in r])), 3) for key in keys}


def look(run: Run) -> dict:
    """Validation by the running average of the weights."""
    return run.course.look(run.classroom, run.average.module.eval().requires_grad_(False), run.tokenizer)


if __name__ == "__main__":
    typer.run(main)
