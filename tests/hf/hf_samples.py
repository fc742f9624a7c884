"""Two pictures, three ragged questions about them, and tokens that are no text by themselves."""

import numpy as np
from PIL import Image

from deltaprune.hf import DeltapruneProcessor

QUESTIONS = ["How many red circles are there?", "What?", "Is there a star in the picture?"]


def pictures() -> list[Image.Image]:
    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    return [Image.fromarray(noise), Image.new("RGB", (32, 32), "orange")]


def unreadable(processor: DeltapruneProcessor) -> list[int]:
    """Ids that are no printable text: a random model likes them, and no stop string matches half a letter."""
    ids = range(processor.config.mllm.lm.vocab_size)
    return [
        i
        for i in ids
        if not processor.tokenizer.decode([i]).isprintable() or "\ufffd" in processor.tokenizer.decode([i])
    ]
