"""The models of transformers that can be pruned in place: one file each, found by `config.model_type`."""

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn

from deltaprune.registry import Registry

Added = Callable[[], Tensor]  # what is added to the rows that enter a layer, (B, T, d), made when it is asked for


class Family:
    """Where a model keeps what pruning touches; subclasses say what differs.

    Class attributes:
        text: the part that calls the decoder layers, its `layers`.
        norm: the name of its final norm; where a family has several text models, that of most.
    """

    text: ClassVar[str] = "model.language_model"
    norm: ClassVar[str] = "norm"

    def visual_ids(self, config: Any) -> tuple[int, ...]:
        """The token ids that stand for a visual token in `input_ids`."""
        return tuple(i for i in (config.image_token_id, getattr(config, "video_token_id", None)) if i is not None)

    def check(self, model: nn.Module) -> None:
        """A `UserError` where this very model is configured in a way that cannot be pruned."""

    def take_over(self, arguments: dict[str, Any]) -> dict[int, Added]:
        """What the text model would add to visual rows between layers, by the layer that it enters.

        Args:
            arguments: the text model's; what is taken over is taken out of them.
        """
        return {}


registry: Registry[type[Family]] = Registry("family", "deltaprune.inplace.families", Family)
