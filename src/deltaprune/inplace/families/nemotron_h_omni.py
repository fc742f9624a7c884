"""Nemotron-H Omni: Mamba-2, attention, experts and MLPs, one of them a block."""

from typing import Any, ClassVar

from deltaprune.errors import UserError
from deltaprune.inplace.families import Family, registry


@registry.register("nemotron_h_omni")
class NemotronHOmni(Family):
    """Two blocks make one usual layer; `early` and `late` count blocks."""

    text: ClassVar[str] = "language_model.model"
    norm: ClassVar[str] = "norm_f"

    def check(self, model: Any) -> None:
        rate = getattr(model.config, "video_pruning_rate", 0) or 0
        if rate > 0:
            raise UserError(
                f"This model drops video tokens on its own (video_pruning_rate={rate}), so that input_ids no longer "
                "tell which rows are visual: set model.config.video_pruning_rate = 0."
            )
