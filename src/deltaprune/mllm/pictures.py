"""What may be given as `images=`: a path, a PIL picture, an array or a tensor, or several of these."""

import os
from collections.abc import Iterable, Mapping, Sequence
from io import IOBase
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deltaprune.errors import UserError
from deltaprune.vision.images import open_image, to_rgb
from deltaprune.vision.rgb import array_image

Picture = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor
Pictures = Picture | Sequence[Picture]

_SINGLE = (str, os.PathLike, Image.Image, np.ndarray, Tensor)
_NOT_SEVERAL = (bytes, bytearray, memoryview, Mapping, IOBase)
_RULE = (
    "give a path, a PIL image, a numpy array or a tensor of (H, W), (H, W, C) or (C, H, W), or a list of these; bytes "
    "are opened with PIL.Image.open(io.BytesIO(...))"
)


def read_pictures(images: Any) -> list[Image.Image]:
    """One or several pictures as upright 8-bit RGB; an array or tensor of four axes holds several.

    Raises:
        UserError: something that is no picture, named by its type; a picture that cannot be read; or none at all.
    """
    if isinstance(images, np.ndarray | Tensor) and images.ndim == 4:
        return [read_picture(image) for image in images]
    if isinstance(images, _SINGLE):
        return [read_picture(images)]
    if isinstance(images, _NOT_SEVERAL) or not isinstance(images, Iterable):
        raise UserError(f"{_kind(images)} is not an image: {_RULE}.")
    pictures = [read_picture(image, place) for place, image in enumerate(images, 1)]
    if not pictures:
        raise UserError("images= is an empty list: give at least one picture, or leave it out.")
    return pictures


def read_picture(image: Any, place: int | None = None) -> Image.Image:
    """One picture as upright 8-bit RGB, see `vision/rgb.py`.

    Args:
        image: a path, a PIL picture, an array or a tensor.
        place: which of several it is, for the message.

    Raises:
        UserError: see `read_pictures`.
    """
    if isinstance(image, str | os.PathLike):
        return open_image(image)
    if isinstance(image, Image.Image):
        return to_rgb(image, "The image" if place is None else f"Image {place}")
    if isinstance(image, Tensor):
        image = image.detach().cpu()
        image = (image.float() if image.dtype == torch.bfloat16 else image).numpy()
    if isinstance(image, np.ndarray):
        return to_rgb(array_image(image))
    which = "" if place is None else f" (number {place} of images=)"
    raise UserError(f"{_kind(image)} is not an image{which}: {_RULE}.")


def _kind(value: object) -> str:
    name = type(value).__name__
    return "None" if value is None else f"An {name}" if name[0] in "aeiouAEIOU" else f"A {name}"
