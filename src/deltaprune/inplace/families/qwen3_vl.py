"""Qwen3-VL: attention alone; features of the vision tower are added to visual rows behind the first layers."""

from typing import Any

from torch import Tensor

from deltaprune.inplace.families import Added, Family, registry


@registry.register("qwen3_vl")
class Qwen3VL(Family):
    """DeepStack (arXiv 2406.04334): what is added behind layer l is added before layer l + 1 instead, to rows that are
    still there.
    """

    def take_over(self, arguments: dict[str, Any]) -> dict[int, Added]:
        where, features = arguments.get("visual_pos_masks"), arguments.get("deepstack_visual_embeds")
        if where is None or features is None:
            return {}
        arguments.update(visual_pos_masks=None, deepstack_visual_embeds=None)
        return {l + 1: _spread(where, feature) for l, feature in enumerate(features)}


def _spread(where: Tensor, features: Tensor) -> Added:
    """Features of visual rows `(V, d)` as rows `(B, T, d)`, zero where there is text."""

    def rows() -> Tensor:
        spread = features.new_zeros(*where.shape, features.shape[-1])
        return spread.masked_scatter(where.to(spread.device)[..., None], features)

    return rows
