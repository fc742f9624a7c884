"""Two pictures and three ragged questions about them."""

import numpy as np
from PIL import Image

QUESTIONS = ["How many red circles are there?", "What?", "Is there a star in the picture?"]


def pictures() -> list[Image.Image]:
    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    return [Image.fromarray(noise), Image.new("RGB", (32, 32), "orange")]
