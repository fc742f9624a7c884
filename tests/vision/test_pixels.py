"""Resizing as torchvision does it, against plain PIL and corners worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from deltaprune.errors import UserError
from deltaprune.models.cobra import COBRA
from deltaprune.models.robomamba import CLIP
from deltaprune.vision.pixels import MAX_RATIO, normalise, resize, resize_crop, resize_naive


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def as_array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).transpose(2, 0, 1) / np.float32(255)


CORNERS = {  # width, height -> what torchvision's Resize(224) makes of it, and CenterCrop(224)'s left and top
    (224, 224): ((224, 224), (0, 0)),
    (640, 480): ((298, 224), (37, 0)),  # 224 * 640 / 480 = 298.67, cut off
    (480, 640): ((224, 298), (0, 37)),
    (301, 200): ((337, 224), (56, 0)),  # 113 / 2 = 56.5, to the even neighbour below
    (200, 301): ((224, 337), (0, 56)),
    (303, 200): ((339, 224), (58, 0)),  # 115 / 2 = 57.5, to the even neighbour above
    (200, 303): ((224, 339), (0, 58)),
    (225, 224): ((225, 224), (0, 0)),  # 1 / 2 = 0.5, to 0; nothing is resampled
    (224, 227): ((224, 227), (0, 2)),  # 3 / 2 = 1.5, to 2
    (1000, 999): ((224, 224), (0, 0)),  # 224.22, cut off: a square
    (7, 5): ((313, 224), (44, 0)),  # 313.6, cut off; 89 / 2 = 44.5, to 44
    (1, 3): ((224, 672), (0, 224)),
}


@pytest.mark.parametrize(("size", "made"), CORNERS.items())
def test_the_short_side_and_the_square_in_the_middle(
    size: tuple[int, int], made: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    (resized, (left, top)), image = made, noise(*size)
    expected = image.resize(resized, Image.Resampling.BICUBIC).crop((left, top, left + 224, top + 224))
    found = resize_crop(image, 224)
    assert found.shape == (3, 224, 224)
    assert np.array_equal(found.numpy(), as_array(expected))


def test_what_the_crop_leaves_out() -> None:
    """Three squares side by side: only the middle one is left."""
    image = Image.new("RGB", (300, 100))
    for n, colour in enumerate(("red", "lime", "blue")):
        image.paste(colour, (100 * n, 0, 100 * n + 100, 100))
    middle = resize_crop(image, 50)
    assert torch.equal(middle[:, :, 3:-3], torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1).expand(3, 50, 44))
    assert resize_naive(image, 50)[0, :, :10].eq(1).all()  # stretched, red is still there


@pytest.mark.parametrize("size", [(384, 384), (640, 480), (31, 57), (1, 1), (3000, 2)])
def test_naive_stretches_to_the_square(size: tuple[int, int]) -> None:
    image = noise(*size)
    found = resize_naive(image, 384)
    assert np.array_equal(found.numpy(), as_array(image.resize((384, 384), Image.Resampling.BICUBIC)))


def test_the_configuration_says_which() -> None:
    image = noise(90, 60)
    assert torch.equal(resize(image, CLIP), resize_crop(image, 224))
    assert torch.equal(resize(image, COBRA.towers["dino"]), resize_naive(image, 384))
    damaged = replace(CLIP)
    object.__setattr__(damaged, "resize", "cropped")  # as a config file may have it, where no type is checked
    with pytest.raises(UserError, match=r"no way 'cropped' .*did you mean 'crop'\?"):
        resize(image, damaged)


def test_an_image_too_narrow_to_be_cropped() -> None:
    resize_crop(noise(MAX_RATIO, 1), 8)
    with pytest.raises(UserError, match=r"The image is 1 x 1001, .* at most 1000 times"):
        resize_crop(noise(1, MAX_RATIO + 1), 8)


def test_normalised_with_the_towers_own_statistics() -> None:
    pixels = torch.tensor([0.48145466, 0.4578275 + 0.26130258, 1.0]).view(3, 1, 1).expand(3, 2, 2)
    expected = torch.tensor([0.0, 1.0, (1 - 0.40821073) / 0.27577711]).view(3, 1, 1).expand(3, 2, 2)
    torch.testing.assert_close(normalise(pixels, CLIP), expected, rtol=1e-6, atol=1e-7)
