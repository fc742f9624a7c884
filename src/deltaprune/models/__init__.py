"""Model families: one file each, found by name.

A source becomes a model in two steps: `_sources.py` finds it and makes a `Checkpoint` of it (sizes, tokenizer, named
tensors that are mapped but not read), `_checkpoint.py` builds the module from that. A family knows how it is published.
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
    """A kind of model that a user can name.

    Attributes:
        repo: its id on the Hub, if it is there.
    """

    repo: str | None = None

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
        """The model in `source`, a path that is recognised; None stands for where the family itself keeps it."""


registry: Registry[Family] = Registry("model", "deltaprune.models")
