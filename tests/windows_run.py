"""An evaluation, a conversion, a plan and an image prefix: python as_on_windows.py windows_run.py MODEL FOLDER STOP.

With a STOP the evaluation is interrupted after that many answers; with 0 it goes on to its end and the rest follows.
"""

import sys
from pathlib import Path

from PIL import Image

from deltaprune.benchmarks.scenes import Scenes
from deltaprune.cli import run
from deltaprune.evaluate import evaluate
from deltaprune.evaluate.store import Store
from deltaprune.load import load
from deltaprune.prefix import ImagePrefix

METHOD, LIMIT = "dtp:keep=0.5", 24


def stop_at(answers: int, done: int) -> None:
    if done >= answers:
        raise KeyboardInterrupt


def main(model: str, folder: Path, stop: int) -> None:
    vlm, processor = load(model)
    settings = {"limit": LIMIT, "batch_size": 6, "max_new_tokens": 4, "out": folder / "run"}
    if stop:
        evaluate(vlm, processor, Scenes(), [METHOD], on_progress=lambda done, _: stop_at(stop, done), **settings)
    evaluate(vlm, processor, Scenes(), [METHOD], **settings)
    with Store(folder / "run"):
        words = ["evaluate", "--model", model, "--method", METHOD, "--limit", "6", "--out", str(folder / "run")]
        assert run(words) == 2, "two runs wrote to one folder"
    words = [*words, "--batch-size", "6"]
    assert run(words) == 0
    assert run(["convert", model, str(folder / "converted")]) == 0
    assert (
        run(["calibrate", "--model", model, "--samples", "2", "--rule", "argmin", "--out", str(folder / "plan.json")])
        == 0
    )
    words = ["ask", "--model", str(folder / "converted"), "--plan", str(folder / "plan.json"), *picture(folder)]
    assert run(words) == 0
    inputs = processor(images=Image.open(folder / "scene.png"), text="How many?")
    for _ in range(2):  # the second one replaces the first
        vlm.encode_image(inputs).save(folder / "prefix.safetensors")
    ImagePrefix.load(folder / "prefix.safetensors")


def picture(folder: Path) -> list[str]:
    Image.new("RGB", (40, 40), "orange").save(folder / "scene.png")
    return [str(folder / "scene.png"), "Wie viele Kreise, größer als 3?", "--overlay", str(folder / "kept.png")]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    print("done")
