"""PIL image -> normalised pixels, as the originals do it, with PIL and torch only."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from deltaprune.errors import UserError, did_you_mean
from deltaprune.vision.towers import TowerConfig

MAX_RATIO = 1000  # of an image's sides where it is cropped: the long side would be resized to 1000 times the tower's


def resize(image: Image.Image, config: TowerConfig) -> Float[Tensor, "3 H W"]:
    """An RGB image at the tower's size, values in [0, 1], by the rule `config.resize`.

    Raises:
        UserError: there is no such rule, or the image is too narrow to crop.
    """
    if config.resize not in RESIZE:
        raise UserError(f"There is no way {config.resize!r} to resize an image: {did_you_mean(config.resize, RESIZE)}.")
    return RESIZE[config.resize](image, config.image_size)


def resize_naive(image: Image.Image, size: int) -> Float[Tensor, "3 H W"]:
    """Cobra's "resize-naive": bicubic, antialiased, the aspect ratio is not kept. Returns values in [0, 1]."""
    return _to_tensor(_bicubic(image, size, size))


def resize_crop(image: Image.Image, size: int) -> Float[Tensor, "3 H W"]:
    """RoboMamba's: the short side to `size` (bicubic, antialiased), then the square in the middle; values in [0, 1].

    The long side's length is cut off to whole pixels, the square's corner is rounded half to even, as torchvision's
    `Resize(size)` and `CenterCrop(size)` do.

    Raises:
        UserError: one side is more than `MAX_RATIO` times the other.
    """
    short, long = sorted(image.size)
    if long > MAX_RATIO * short:
        raise UserError(
            f"The image is {image.width} x {image.height}, and this model sees the square in its middle: one side may "
            f"be at most {MAX_RATIO} times the other, so cut out the part the question is about."
        )
    length = int(size * long / short)
    width, height = (size, length) if image.width <= image.height else (length, size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return _to_tensor(_bicubic(image, width, height).crop((left, top, left + size, top + size)))


def normalise(pixels: Float[Tensor, "*b 3 H W"], config: TowerConfig) -> Float[Tensor, "*b 3 H W"]:
    """(pixels - mean) / std with the tower's own statistics."""
    mean = torch.tensor(config.mean, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(config.std, device=pixels.device).view(3, 1, 1)
    return (pixels - mean) / std


def to_picture(pixels: Float[Tensor, "3 H W"], config: TowerConfig) -> Image.Image:
    """The inverse of `normalise`, as an RGB picture: what a tower was shown."""
    mean, std = torch.tensor(config.mean).view(3, 1, 1), torch.tensor(config.std).view(3, 1, 1)
    levels = ((pixels.detach().float().cpu() * std + mean) * 255).round().clamp(0, 255)
    return Image.fromarray(levels.to(torch.uint8).permute(1, 2, 0).contiguous().numpy())


def shrink(pixels: Float[Tensor, "B 3 _ _"], size: int) -> Float[Tensor, "B 3 _ _"]:
    """Normalised square pixels at another size: bicubic, antialiased, as `resize` does it.

    Resampling weights sum to 1, so it makes no difference that the pixels are normalised; values are not cut off at
    black and white as PIL cuts them.
    """
    small = F.interpolate(pixels.float(), size=(size, size), mode="bicubic", antialias=True, align_corners=False)
    return small.to(pixels.dtype)


def _bicubic(image: Image.Image, width: int, height: int) -> Image.Image:
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC)


def _to_tensor(image: Image.Image) -> Float[Tensor, "3 H W"]:
    """8-bit RGB -> values in [0, 1]."""
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255.0).permute(2, 0, 1).contiguous()


RESIZE = {"naive": resize_naive, "crop": resize_crop}
