"""Nemotron-H Omni: a picture in one piece, within a number of patches; the processor takes video and audio as well."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import ProcessorMixin
from transformers.image_utils import PILImageResampling
from transformers.processing_utils import ImagesKwargs
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from deltaprune.hosted.processors import PicturesOnly, named, registry
from deltaprune.hosted.processors._tensors import TensorPictures, normalised, patches, resized


class NemotronSettings(ImagesKwargs, total=False):
    """As in the folder's file; a visual token is 1 / downsample_ratio patches high and wide."""

    patch_size: int
    downsample_ratio: float
    min_num_patches: int
    max_num_patches: int
    max_model_len: int


class NemotronImageProcessor(TensorPictures):
    """Outputs: the patches of all pictures `(N, 3 p^2)`, and each picture's rows and columns of them."""

    patch_size = 16
    downsample_ratio = 0.5
    min_num_patches = 1024
    max_num_patches = 13312
    max_model_len = 16384
    resample = PILImageResampling.BICUBIC
    rescale_factor = 1 / 255
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    valid_kwargs = NemotronSettings
    model_input_names: ClassVar[list[str]] = ["pixel_values", "image_grid_hw"]

    def __init__(self, norm_mean: Any = None, norm_std: Any = None, **settings: Any):
        """Published folders call the mean and the deviation norm_mean and norm_std."""
        for name, value in (("image_mean", norm_mean), ("image_std", norm_std)):
            if value is not None:
                settings.setdefault(name, value)
        super().__init__(**settings)

    def pictures(self, images: Sequence[Tensor], settings: dict[str, Any]) -> dict[str, Any]:
        """Resized in float32: what bicubic interpolation gives beyond white stays."""
        side, merged = settings["patch_size"], round(1 / settings["downsample_ratio"])
        least, most = settings["min_num_patches"], settings["max_num_patches"]
        room = max((settings["max_model_len"] - 4) * merged**2, least * len(images))
        room = max(least, min(room, most) if most else room)
        grids = [grid((image.shape[1], image.shape[2]), side, merged, least, room) for image in images]
        made = [
            resized(image.float(), (rows * side, columns * side), settings["resample"])
            for image, (rows, columns) in zip(images, grids, strict=True)
        ]
        flat = [patches(normalised(each, settings), side, "chw") for each in made]
        return {"pixel_values": torch.cat(flat), "image_grid_hw": torch.tensor(grids)}


def grid(size: tuple[int, int], side: int, merged: int, least: int, most: int) -> tuple[int, int]:
    """Rows and columns of patches of a picture of this height and width, whole visual tokens, `least` to `most` of them
    where these differ.
    """
    sides = [round(pixels / side + 0.5) for pixels in size]
    shrink = min(1.0, math.sqrt(most / math.prod(sides)))
    sides = [math.floor(shrink * n) for n in sides]
    if most > least > math.prod(sides):
        grow = math.sqrt(least / math.prod(sides))
        sides = [math.ceil(grow * n) for n in sides]
    for i in (0, 1):
        rest = sides[i] % merged
        up = sides[i] + merged - rest
        if rest:
            sides[i] = up if up * sides[1 - i] <= most else max(merged, sides[i] - rest)
    return sides[0], sides[1]


@registry.register("nemotron_h_omni")
class NemotronPictures(PicturesOnly):
    """A mark before and behind each picture's visual tokens.

    Args:
        image_processor, tokenizer: the parts.
        chat_template: the folder's.
    """

    pictures = NemotronImageProcessor

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str | None = None):
        self.image_token = named(tokenizer, "image_token", "<image>")
        self.image_start_token = named(tokenizer, "image_start_token", "<img>")
        self.image_end_token = named(tokenizer, "image_end_token", "</img>")
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)
