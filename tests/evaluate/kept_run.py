"""A run that keeps its answers, to be killed: python kept_run.py MODEL OUT METHOD..."""

import sys
from pathlib import Path

from deltaprune.benchmarks.scenes import Scenes
from deltaprune.evaluate import evaluate
from deltaprune.load import load

if __name__ == "__main__":
    model, out, *methods = sys.argv[1:]
    print("started", flush=True)
    evaluate(*load(model), Scenes(), methods, limit=240, batch_size=6, max_new_tokens=4, out=Path(out))
    print("done", flush=True)
