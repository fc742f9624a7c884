"""Pictures: examples, and files that are read."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from PIL import Image

from deltaprune.benchmarks.scenes import Scene, scene_seed
from deltaprune.studio.pictures import small_uri
from deltaprune.vision.images import decode_image

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


class Sight:
    """One picture.

    Args:
        name: the file's, as commands name it.
        image: upright RGB.
    """

    def __init__(self, name: str, image: Image.Image):
        self.name, self.image = name, image

    @cached_property
    def uri(self) -> str:
        """The picture as an address that holds it, as it is drawn."""
        return small_uri(self.image)


def read(path: str) -> tuple[str, Image.Image]:
    """The name of a picture file, and the picture.

    Raises:
        UserError: it is no picture, or damaged; the sentence has the file's name and not its folder.
    """
    file = Path(path)
    return file.name, decode_image(file.read_bytes(), repr(file.name))
