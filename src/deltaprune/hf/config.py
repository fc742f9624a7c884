"""`MLLMConfig` as transformers sees it: the same `config.json`, read by both."""

from typing import Any

from transformers import PreTrainedConfig

from deltaprune.checkpoints.folder import ARCHITECTURE, MODEL_TYPE
from deltaprune.errors import UserError
from deltaprune.mllm.network import MLLMConfig


class DeltapruneConfig(PreTrainedConfig):
    """The fields of `MLLMConfig` at the top level, beside those of `PreTrainedConfig`.

    Attributes:
        mllm: the typed configuration.
        eos_token_id: the id that ends an answer; also the padding.
    """

    model_type = MODEL_TYPE
    has_no_defaults_at_init = True

    def __init__(self, **fields: Any):
        super().__init__(**fields)

    @classmethod
    def of(cls, config: MLLMConfig, eos_id: int) -> "DeltapruneConfig":
        """Wrap a typed configuration."""
        ids = {"eos_token_id": eos_id, "pad_token_id": eos_id}
        return cls(architectures=[ARCHITECTURE], **ids, **config.to_dict())

    @property
    def mllm(self) -> MLLMConfig:
        """The typed configuration.

        Raises:
            UserError: fields are missing or not what they should be.
        """
        try:
            return MLLMConfig.from_dict(self.to_dict())
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"This DeltapruneConfig does not describe a model ({type(error).__name__}: {error}): read one with "
                "DeltapruneConfig.from_pretrained(folder)."
            ) from error

    @property
    def vocab_size(self) -> int | None:
        """Rows the LM knows: what transformers checks ids against."""
        lm = getattr(self, "lm", None)
        return None if lm is None else lm["vocab_size"]
