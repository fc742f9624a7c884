"""A picture as the model sees it: read once, encoded once for each size that a method shows to the towers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor

from deltaprune.benchmarks.scenes import Scene, scene_seed
from deltaprune.methods.none import NoPruning
from deltaprune.mllm.processor import Inputs, Processor
from deltaprune.steps import Method, side_of
from deltaprune.studio.pictures import small_uri
from deltaprune.timing import timed
from deltaprune.vision.images import decode_image
from deltaprune.vlm import VLM

RUNS, ENOUGH = 3, 150  # a time is the median of up to 3 runs, fewer where they take more than 150 ms together

T = TypeVar("T")


def a_few(run: Callable[[], T], took: Callable[[T], float]) -> list[T]:
    """What `run` gives, up to `RUNS` times, as long as the milliseconds that each took allow it, see `ENOUGH`."""
    results: list[T] = []
    while len(results) < RUNS and sum(map(took, results)) <= ENOUGH:
        results.append(run())
    return results


@dataclass(frozen=True)
class Example:
    """A drawn scene of the test split with a question about it."""

    name: str
    index: int
    question: str

    @property
    def image(self) -> Image.Image:
        """160 x 160, RGB."""
        return Scene.from_seed(scene_seed("test", 99, self.index)).image


EXAMPLES = (
    Example("red_things.png", 21, "What is written on the sign?"),
    Example("triangles.png", 560, "How many objects are there?"),
    Example("green_cross.png", 32, "Is there a green cross in the picture?"),
)


@dataclass
class Sight:
    """One picture and what the towers make of it.

    Attributes:
        name: the file's, as commands name it.
        image: upright RGB.
        pixels: the processor's output, where the model is.
    """

    name: str
    image: Image.Image
    pixels: Inputs
    _seen: dict[int | None, tuple[Tensor, float]] = field(default_factory=dict, repr=False)

    @cached_property
    def uri(self) -> str:
        """The picture as an address that holds it, as it is drawn."""
        return small_uri(self.image)

    @classmethod
    def of(cls, name: str, image: Image.Image, vlm: VLM, processor: Processor) -> "Sight":
        """A picture that is in memory."""
        return cls(name, image, processor.encode_images([image]).to(vlm.device))

    @classmethod
    def read(cls, path: str, vlm: VLM, processor: Processor) -> "Sight":
        """A picture file.

        Raises:
            UserError: it is no picture, or damaged; the sentence has the file's name and not its folder.
        """
        file = Path(path)
        return cls.of(file.name, decode_image(file.read_bytes(), repr(file.name)), vlm, processor)

    def seen(self, vlm: VLM, method: Method | None = None) -> tuple[Tensor, float]:
        """The visual tokens `(1, P, d_model)` under a method, and how many milliseconds the towers take."""
        chosen = NoPruning() if method is None else method
        side = side_of(chosen.checked_steps(vlm.shape))
        if side not in self._seen:
            runs = a_few(lambda: timed(lambda: vlm.see(self.pixels, chosen), vlm.device), lambda run: run[1])
            visual = runs[0][0]
            assert visual is not None
            self._seen[side] = visual, median(ms for _, ms in runs)
        return self._seen[side]

    def ask(self, processor: Processor, question: str) -> Inputs:
        """The inputs of one question about it, without the pixels."""
        text = processor.encode_text([question])
        image_key = self.pixels["image_key"]
        return Inputs(**text, image_index=torch.zeros(1, dtype=torch.int64), image_key=image_key).to(image_key.device)
