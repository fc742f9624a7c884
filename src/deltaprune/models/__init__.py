"""Model families: one file each, found by name. `config()` needs no weights, `load()` gives module and processor."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from deltaprune._registry import Registry

if TYPE_CHECKING:
    from deltaprune.models._mllm import MLLM, MLLMConfig
    from deltaprune.models._processor import Processor


class Family(ABC):
    """A kind of model that a user can name."""

    @abstractmethod
    def config(self) -> "MLLMConfig":
        """Sizes and plan, without weights."""

    @abstractmethod
    def load(self, source: Path | None = None) -> "tuple[MLLM, Processor]":
        """Weights and processor, from `source` or from where this family keeps them."""


registry: Registry[Family] = Registry("model", "deltaprune.models")
