"""Model families: one file each, found by name.

A source becomes a model in two steps: `checkpoints/sources.py` finds it and makes a `Checkpoint` of it (sizes,
tokenizer, named tensors that are mapped but not read), and `checkpoints/checkpoint.py` builds the module from that. A
family knows the layout in which its model is published.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from deltaprune.registry import Registry

if TYPE_CHECKING:
    from deltaprune.checkpoints.checkpoint import Checkpoint
    from deltaprune.checkpoints.parts import Towers
    from deltaprune.mllm.network import MLLMConfig


class Family(ABC):
    """A kind of model that a user can load by name.

    Attributes:
        repo: its id on the Hub, if it is there.
        chat_template: the Jinja text of its prompts, if no file of `mllm/templates` fits. The configuration
            refers to it by the name under which the family is registered: `MLLMConfig(template=NAME)`.
    """

    repo: str | None = None
    chat_template: str | None = None

    @abstractmethod
    def config(self) -> "MLLMConfig":
        """Sizes and plan, without weights."""

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Whether this folder or file is in the layout in which the family is published."""

    @abstractmethod
    def open(
        self, source: Path | None, towers: "Towers | None" = None, tokenizer: str | Path | None = None
    ) -> "Checkpoint":
        """The model in `source`, a path that `recognises` accepts; None opens the family's own copy or download."""


registry: Registry[Family] = Registry("model", "deltaprune.models")
