"""From prompts to the states that answers are decoded from: each picture is run once, texts are read in batches."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from deltaprune.mllm.processor import Inputs, Processor
from deltaprune.prefill import Prefilled
from deltaprune.prefix import ImagePrefix
from deltaprune.serve.asked import Asked, Read
from deltaprune.serve.prefixes import Prefixes
from deltaprune.vlm import VLM


class Reader:
    """Reads prompts with one model.

    Args:
        vlm, processor: what `load` gave.
        prefixes: where the pictures' prefixes are kept.
    """

    def __init__(self, vlm: VLM, processor: Processor, prefixes: Prefixes):
        self.vlm, self.processor, self.prefixes = vlm, processor, prefixes

    def known(self, asked: Asked) -> bool:
        """Whether nothing is left to be seen: there is no picture, or its prefix is there, perhaps since a moment."""
        if asked.image is not None and asked.prefix is None:
            asked.prefix = self.prefixes.get(asked.image)
            asked.hit = asked.prefix is not None
        return asked.image is None or asked.prefix is not None

    def see(self, asked: Asked) -> None:
        """Run a picture alone and keep its prefix."""
        assert asked.image is not None
        assert asked.pixels is not None
        prefix = self.vlm.encode_image(asked.pixels.to(self.vlm.device), method=asked.method)
        asked.prefix = _without_rows(prefix) if prefix.prefilled.depth == self.vlm.shape.n_layers else prefix
        asked.pixels = None
        self.prefixes.put(asked.image, asked.prefix)

    def read(self, group: Sequence[Asked]) -> Prefilled:
        """One sample a prompt. All have one method; all have a picture's prefix, or none has."""
        text = self.processor.pad([asked.ids for asked in group]).to(self.vlm.device)
        method = group[0].method
        prefixes = {id(asked.prefix): asked.prefix for asked in group if asked.prefix is not None}
        if not prefixes:
            return self.vlm.start(text, method=method).checked()
        places = {name: place for place, name in enumerate(prefixes)}
        index = torch.tensor([places[id(asked.prefix)] for asked in group])
        prefix = ImagePrefix.cat(list(prefixes.values()))
        return self.vlm.start(Inputs(**text, image_index=index), prefix, method).checked()

    def alone(self, asked: Asked) -> Prefilled:
        """One prompt as `ask` reads it: picture and text in one pass, beside nothing else."""
        inputs = self.processor.pad([asked.ids])
        if asked.picture is not None:
            inputs = Inputs(**inputs, image_index=torch.zeros(1, dtype=torch.int64), **asked.picture())
        return self.vlm.start(inputs.to(self.vlm.device), method=asked.method).checked()


def _without_rows(prefix: ImagePrefix) -> ImagePrefix:
    """A prefix that no layer is left to read without its rows, a quarter of its memory."""
    rows = prefix.prefilled.tokens
    none = (0,) * len(rows.lengths)
    empty = rows.take(torch.zeros(0, dtype=torch.int64, device=rows.x.device), none, none)
    return replace(prefix, prefilled=replace(prefix.prefilled, tokens=empty))


def what_was_kept(asked: Asked, prefilled: Prefilled, sample: int) -> Read:
    """How many visual tokens a prompt that has been read had and kept."""
    visual = 0 if asked.prefix is None else asked.prefix.prefilled.tokens.n_image[0]
    stages = prefilled.kept
    return Read(visual, tuple(s.after for s in stages), tuple(s.counts[sample] for s in stages), asked.hit)
