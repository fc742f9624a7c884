"""A method of your own: DTP with a third stage in between.

python examples/new_method.py
deltaprune ask examples/triangles.png "How many objects are there?" --plugin examples/new_method.py --method three_steps
"""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

import deltaprune as dp
from deltaprune.methods import registry


@registry.register("three_steps")
@dataclass(frozen=True)
class ThreeSteps(dp.Method):
    """Half of the image after the early layer, a quarter half-way to the late one, nothing after it."""

    def steps(self, shape):
        early, late = shape.plan.early, shape.plan.late
        cuts = ((early, 0.5), ((early + late) // 2, 0.25))
        return (*(dp.Stage(after, keep, dp.Delta()) for after, keep in cuts), dp.Stage(late, 0.0))


if __name__ == "__main__":
    model, processor = dp.load("bundled")
    inputs = processor(images=Image.open(Path(__file__).parent / "triangles.png"), text="How many objects are there?")
    prefilled = model.start(inputs, method=ThreeSteps())
    print(processor.batch_decode(model.continue_from(prefilled)), [kept.counts for kept in prefilled.kept])
