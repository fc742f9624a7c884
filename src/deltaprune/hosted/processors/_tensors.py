"""Pictures as transformers' processors make them with torchvision, made with torch alone."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_base import BatchFeature
from transformers.image_utils import PILImageResampling

MODES = {PILImageResampling.BILINEAR: "bilinear", PILImageResampling.BICUBIC: "bicubic"}


class TensorPictures(PilBackend):
    """Settings are attributes, read from the folder's file as by any processor of transformers'.

    Class attribute `told`: names of outputs that are no tensors.
    """

    do_rescale: ClassVar[bool] = True
    do_normalize: ClassVar[bool] = True
    do_convert_rgb: ClassVar[bool] = True
    told: ClassVar[tuple[str, ...]] = ()

    def pictures(self, images: Sequence[Tensor], settings: dict[str, Any]) -> dict[str, Any]:
        """What the model takes, of uint8 pictures `(3, h, w)`."""
        raise NotImplementedError

    def _preprocess(  # pyright: ignore[reportIncompatibleMethodOverride]  # the settings are those of `valid_kwargs`
        self, images: Sequence[np.ndarray], return_tensors: Any = None, **settings: Any
    ) -> BatchFeature:
        made = self.pictures([torch.from_numpy(np.ascontiguousarray(image)) for image in images], settings)
        return BatchFeature(made, tensor_type=return_tensors, skip_tensor_conversion=list(self.told))


def resized(image: Tensor, size: tuple[int, int], resample: Any) -> Tensor:
    """`(3, h, w)` at another size, smoothed where it shrinks, as torchvision does it to tensors.

    Raises:
        ValueError: a kind of resampling that tensors do not have.
    """
    if tuple(image.shape[-2:]) == size:
        return image
    if resample not in MODES:
        raise ValueError(f"resample={resample} is not among those of tensors, {', '.join(map(str, MODES))}")
    return interpolate(image[None], size, mode=MODES[resample], align_corners=False, antialias=True)[0]


def normalised(image: Tensor, settings: dict[str, Any]) -> Float[Tensor, "3 h w"]:
    """float32, rescaled and normalised as the settings say."""
    image = image.float()
    if settings["do_rescale"]:
        image = image * settings["rescale_factor"]
    if settings["do_normalize"]:
        mean, std = (torch.tensor(settings[name])[:, None, None] for name in ("image_mean", "image_std"))
        image = (image - mean) / std
    return image


def patches(image: Tensor, side: int, order: str) -> Float[Tensor, "n m"]:
    """`(3, h, w)` -> its patches row by row, each flattened; `order`: "chw" or "hwc"."""
    apart = image.unfold(1, side, side).unfold(2, side, side)  # (3, rows, columns, side, side)
    inner = (0, 3, 4) if order == "chw" else (3, 4, 0)
    return apart.permute(1, 2, *inner).flatten(2).flatten(0, 1)
