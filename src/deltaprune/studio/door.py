"""What a visitor's session asks of a model: one door for models of our own, one for transformers models."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL.Image import Image

from deltaprune.plan import Shape
from deltaprune.studio.choices import Setting
from deltaprune.studio.result import Asked, Result
from deltaprune.studio.sight import Sight


class Door(ABC):
    """A model and its processor, and what can be seen of them.

    Attributes:
        name: the model's.
        about: its depth and its visual tokens, in a few words.
        warning: what a visitor has to know of its plan; "" where nothing is.
        asking: how several questions about one picture are answered, in a sentence.
        score: the score that the page opens with.
        shape: what a method may know of the model.
    """

    name: str
    about: str
    warning: str
    asking: str
    score: str
    shape: Shape

    @abstractmethod
    def scores(self) -> list[str]:
        """The names of the scores that some layer can serve."""

    @abstractmethod
    def setting(self, method: str, sight: Sight) -> Setting:
        """A method with the defaults that fit the model and a picture."""

    @abstractmethod
    def look(self, name: str, image: Image) -> Sight:
        """A picture as the model sees it."""

    @abstractmethod
    def tokens(self, sight: Sight) -> int:
        """How many visual tokens a picture has without a method."""

    @abstractmethod
    def grid(self, sight: Sight) -> tuple[int, int] | None:
        """Rows and columns of these over the picture; None where they are no grid over it."""

    @abstractmethod
    def measured(self, sight: Sight, question: str, text: str, warm: bool) -> Result:
        """Ask one question about a picture under one setting.

        Args:
            sight: the picture.
            question: not empty.
            text: the setting, as `parse` reads it.
            warm: whether this setting's kernels have run; else it runs once before it is timed.

        Raises:
            UserError: the setting does not fit the model.
            NotFinite: the weights or activations overflowed.
        """

    @abstractmethod
    def asked(self, sight: Sight, question: str, whole: Result, held: Any) -> tuple[Asked, Any]:
        """A question for the list of those about this picture, and what is held for the next one.

        Args:
            sight: the picture.
            question: not empty.
            whole: what `measured` gave for it.
            held: what this method gave for the last question under the same setting; None for the first.
        """

    @abstractmethod
    def heat(self, sight: Sight, question: str, score: str) -> Float32[np.ndarray, "L P"]:
        """A score of each visual token as each layer gives it without pruning; NaN where a layer does not."""


def door_of(vlm: Any, processor: Any) -> Door:
    """The door to a model as `load` gave it."""
    from deltaprune.hosted.model import Hosted

    if isinstance(vlm, Hosted):
        from deltaprune.studio.hosted import HostedDoor

        return HostedDoor(vlm, processor)
    from deltaprune.studio.own import OwnDoor

    return OwnDoor(vlm, processor)
