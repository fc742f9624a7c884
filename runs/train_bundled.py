"""Train the bundled model from nothing, or take a run up again; the same script on CPU and GPU.

    python runs/train_bundled.py --minutes 90                       # a fresh run, checkpoints under checkpoints/bundled
    python runs/train_bundled.py --minutes 60                       # goes on where the last run there stood
    python runs/train_bundled.py --minutes 60 --start src/deltaprune/models/_bundled   # from the shipped model
    python runs/train_bundled.py --minutes 8 --device cuda --pictures 128 --workers 14

The learning rate is constant and falls to zero over the last quarter of the minutes; `constant.pt` is the state just
before that fall, where the next run takes up. `annealed` is a model folder that `deltaprune.load` reads.
"""

import json
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.data import DataLoader

from bundled.lessons import KINDS, Lessons
from bundled.recipe import CONFIG, Recipe
from bundled.run import Run


def main(
    minutes: Annotated[float, typer.Option(help="How long to train, the anneal included.")] = 60,
    device: str = "cpu",
    pictures: Annotated[int, typer.Option(help="Pictures per step.")] = 16,
    anneal: Annotated[float, typer.Option(help="Last share of the minutes, over which the rate falls to zero.")] = 0.25,
    workers: Annotated[int, typer.Option(help="Processes that draw pictures.")] = 1,
    out: Path = Path("checkpoints/bundled"),
    start: Annotated[Path | None, typer.Option(help="A published model folder to take up.")] = None,
    fresh: Annotated[bool, typer.Option(help="Ignore an earlier run in OUT.")] = False,
) -> None:
    """Train, log every 50 steps, checkpoint every 5 minutes, end with a model folder."""
    recipe = Recipe()
    run = Run(out, recipe, device)
    taken_up = not fresh and run.resume()
    if start is not None and not taken_up:
        run.start_from(start)
    lessons = Lessons(CONFIG, run.tokenizer, pictures, recipe.questions, recipe.drills, run.pictures)
    stream = iter(DataLoader(lessons, batch_size=None, num_workers=workers, prefetch_factor=4))
    begin, before, saved, annealing, recent = time.monotonic(), run.seconds, time.monotonic(), False, []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("taken up" if taken_up else "fresh", total=minutes * 60)
        first = run.pictures
        while (spent := time.monotonic() - begin) < minutes * 60:
            left = 1 - spent / (minutes * 60)
            if left < anneal and not annealing:
                annealing = True
                run.save("constant.pt")
            warm = 1.0 if taken_up else min(1.0, ((run.pictures - first) / pictures + 1) / recipe.warm_up)
            result = run.step(next(stream), recipe.rate * warm * min(1.0, left / anneal))
            run.seconds = before + time.monotonic() - begin
            recent.append(result)
            if len(recent) == 50:
                entry = summary(recent, run)
                run.log.append(entry)
                recent = []
                progress.console.print(json.dumps(entry), soft_wrap=True)
            if not annealing and time.monotonic() - saved > 300:
                run.save("constant.pt")
                saved = time.monotonic()
            progress.update(task, completed=spent, description=f"{run.pictures:,} pictures")
    run.publish(out / "annealed")


def summary(recent: list[dict[str, float]], run: Run) -> dict[str, float]:
    """Means of the last steps."""
    keys = [key for key in ("loss", "dense", "drift", *KINDS) if any(key in result for result in recent)]
    means = {key: round(float(np.mean([r[key] for r in recent if key in r])), 3) for key in keys}
    return {"pictures": run.pictures, "minutes": round(run.seconds / 60, 1), **means}


if __name__ == "__main__":
    typer.run(main)
