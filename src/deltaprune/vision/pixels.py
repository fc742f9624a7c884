"""PIL image -> normalised pixels, as the originals do it, with PIL and torch only."""

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from deltaprune.vision.towers import TowerConfig


def resize_naive(image: Image.Image, size: int) -> Float[Tensor, "3 H W"]:
    """Cobra's "resize-naive": bicubic, antialiased, the aspect ratio is not kept. Returns values in [0, 1]."""
    small = image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(small, dtype=np.float32) / 255.0).permute(2, 0, 1).contiguous()


def normalise(pixels: Float[Tensor, "*b 3 H W"], config: TowerConfig) -> Float[Tensor, "*b 3 H W"]:
    """(pixels - mean) / std with the tower's own statistics."""
    mean = torch.tensor(config.mean, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(config.std, device=pixels.device).view(3, 1, 1)
    return (pixels - mean) / std
