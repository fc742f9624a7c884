"""A score of your own: the distance of a visual row from the image's mean row, in ten lines of code.

python examples/new_score.py
deltaprune ask examples/triangles.png "How many stars?" --plugin examples/new_score.py --method dtp:score=unusual
"""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

import deltaprune as dp
from deltaprune.scores import registry


@registry.register("unusual")
@dataclass(frozen=True)
class Unusual(dp.Score):
    """|| hidden_j - mean over the image's rows of hidden ||; what is unlike the rest is kept."""

    needs = frozenset({"hidden"})
    sees_text = False

    def __call__(self, rows, trace):
        scores = trace["hidden"].new_zeros(len(rows.x))
        for sample in range(len(rows.lengths)):
            visual = rows.visual_rows(sample)
            image = trace["hidden"][visual]
            scores[visual] = (image - image.mean(0)).norm(dim=-1)
        return scores


if __name__ == "__main__":
    model, processor = dp.load("bundled")
    inputs = processor(images=Image.open(Path(__file__).parent / "triangles.png"), text="How many objects are there?")
    with dp.DTP(keep=0.5, score=Unusual())(model):
        print(processor.batch_decode(model.generate(**inputs)))
