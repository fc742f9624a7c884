"""The vision towers beside their own matrix products."""

from collections.abc import Callable, Mapping
from statistics import median

import torch
from torch import Tensor, nn

from deltaprune.cost.timing import spread, timed, unmeasured
from deltaprune.vision.towers import TowerConfig
from deltaprune.vlm import VLM


def tower_products(tower: nn.Module, config: TowerConfig, images: int) -> Callable[[], None]:
    """The matrix products of a tower and nothing else, ready to run: patches, projections, and attention's two.

    They take the tower's own weights, random inputs and memory made beforehand.

    Args:
        tower: the tower.
        config: its sizes.
        images: at once.
    """
    patches = next(m for m in tower.modules() if isinstance(m, nn.Conv2d)).weight.flatten(1)
    like = {"device": patches.device, "dtype": patches.dtype}
    length = config.n_patches + config.n_prefix
    weights = [(patches, images * config.n_patches)]
    weights += [(m.weight, images * length) for m in tower.modules() if isinstance(m, nn.Linear)]
    inputs = {weight.shape[1]: torch.randn(images * length, weight.shape[1]).to(**like) for weight, _ in weights}
    outputs = {weight.shape[0]: torch.empty(images * length, weight.shape[0], **like) for weight, _ in weights}
    heads = images * config.n_heads, length, config.width // config.n_heads
    query, key, value = (torch.randn(heads).to(**like) for _ in range(3))
    scores, mixed = torch.empty(heads[0], length, length, **like), torch.empty(heads, **like)

    @torch.no_grad()
    def run() -> None:
        for weight, rows in weights:
            torch.mm(inputs[weight.shape[1]][:rows], weight.t(), out=outputs[weight.shape[0]][:rows])
        for _ in range(config.n_blocks - 1):
            torch.bmm(query, key.transpose(1, 2), out=scores)
            torch.bmm(scores, value, out=mixed)

    return run


@torch.no_grad()
def towers(vlm: VLM, images: int = 1, rounds: int = 5) -> dict[str, dict[str, float]]:
    """Time every tower and its products in turn.

    Args:
        vlm: the model; random weights will do.
        images: at once, random pixels.
        rounds: measured ones, after one that warms up (on a GPU two).

    Returns:
        By tower: `ms` and `products_ms`, medians; `ratio`, the median of the rounds' ratios; `spread` of the tower's
        times, see `timing.spread`.
    """
    configs: Mapping[str, TowerConfig] = vlm.config.towers
    dtype, found = vlm.model.lm.dtype, {}
    for name, tower in vlm.model.vision.items():
        config = configs[name]
        pixels: Tensor = torch.randn(images, 3, config.image_size, config.image_size).to(vlm.device, dtype)
        runs = (lambda tower=tower, pixels=pixels: tower(pixels)), tower_products(tower, config, images)
        first = unmeasured(vlm.device)
        times = [[timed(run, vlm.device)[1] for run in runs] for _ in range(first + rounds)][first:]
        took, products = zip(*times, strict=True)
        ratio = median(a / b for a, b in times)
        found[name] = {"ms": median(took), "products_ms": median(products), "ratio": ratio, "spread": spread(took)}
    return found
