"""What a notebook shows of an answer: the picture with the patches that went, as a PNG."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

import deltaprune as dp
from deltaprune.analysis import overlay
from deltaprune.ask import ask
from deltaprune.benchmarks.scenes import Scene
from deltaprune.mllm.processor import Processor
from deltaprune.vision.pixels import normalise, resize, to_picture
from deltaprune.vlm import VLM

SCENE = Scene.from_seed(7).image
OTHER = Scene.from_seed(8).image
TEXT = "How many red circles are there?"


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and np.array_equal(np.asarray(one), np.asarray(other))


def from_png(data: bytes | None) -> Image.Image:
    assert data is not None
    return Image.open(BytesIO(data), formats=["PNG"])


def test_a_row_of_ask_draws_what_it_kept(tiny: tuple[VLM, Processor]) -> None:
    unpruned, pruned = ask(*tiny, SCENE, [TEXT], "dtp:keep=0.5", max_new_tokens=2)
    said = f"dtp:keep=0.5: {pruned.answer}"
    assert same(pruned.overlay(), overlay(SCENE, pruned.kept_origin, (4, 4), (1, 3), said))
    assert same(from_png(pruned._repr_png_()), pruned.overlay())
    assert same(unpruned.overlay(title=""), overlay(SCENE, [], (4, 4), [], ""))
    assert same(pruned.overlay(OTHER, "mine"), overlay(OTHER, pruned.kept_origin, (4, 4), (1, 3), "mine"))
    assert not {"kept_origin", "grid", "picture"} & pruned.to_dict().keys()


def test_a_smaller_picture_has_a_smaller_grid(tiny: tuple[VLM, Processor]) -> None:
    row = ask(*tiny, SCENE, [TEXT], "downscale:keep=0.25", max_new_tokens=2)[1]
    assert row.grid == (2, 2)
    answer = tiny[0].answer(tiny[1](images=SCENE, text=TEXT), 2, method="downscale:keep=0.25")
    assert answer.look is not None
    assert answer.look.grid == (2, 2)


def test_pixels_come_back_as_the_picture(tiny: tuple[VLM, Processor]) -> None:
    """To the level: normalising and its inverse lose nothing that 8 bits can show."""
    for tower in tiny[0].config.towers.values():
        levels = resize(SCENE, tower)
        expected = (levels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        assert np.array_equal(np.asarray(to_picture(normalise(levels, tower), tower)), expected)


def test_an_answer_draws_each_row_on_its_own_picture(tiny: tuple[VLM, Processor]) -> None:
    vlm, processor = tiny
    inputs = processor(images=[SCENE, OTHER], text=[TEXT] * 3, image_index=[1, 0, 1])
    answer = vlm.answer(inputs, 2, method="dtp:keep=0.5")
    tower = next(iter(vlm.config.towers.values()))
    for row, picture in enumerate((OTHER, SCENE, OTHER)):
        kept = [stage.origin[row].numpy() for stage in answer.kept]
        small = to_picture(normalise(resize(picture, tower), tower), tower)
        assert same(answer.overlay(row=row), overlay(small, kept, (4, 4), (1, 3)))
        assert same(answer.overlay(picture, row, "mine"), overlay(picture, kept, (4, 4), (1, 3), "mine"))
    assert same(from_png(answer._repr_png_()), answer.overlay())
    assert len(repr(answer)) < 300


def test_an_answer_from_a_prefix_needs_the_picture(tiny: tuple[VLM, Processor]) -> None:
    vlm, processor = tiny
    prefix = vlm.encode_image(SCENE, method="dtp:keep=0.5")
    answer = vlm.answer(processor(text=TEXT), 2, prefix=prefix, method="dtp:keep=0.5")
    whole = vlm.answer(processor(images=SCENE, text=TEXT), 2, method="dtp:keep=0.5")
    assert same(answer.overlay(SCENE), whole.overlay(SCENE))
    assert answer._repr_png_() is None
    with pytest.raises(dp.UserError, match=r"give the picture, overlay\(image\)"):
        answer.overlay()


def test_mistakes_of_drawing(tiny: tuple[VLM, Processor]) -> None:
    vlm, processor = tiny
    without = vlm.answer(processor(text=TEXT), 2)
    assert without._repr_png_() is None
    with pytest.raises(dp.UserError, match="no picture"):
        without.overlay(SCENE)
    with pytest.raises(dp.UserError, match="no row 1: the rows of this answer are 0 to 0"):
        vlm.answer(processor(images=SCENE, text=TEXT), 2).overlay(row=1)
    with pytest.raises(dp.UserError, match="is not an image"):
        vlm.answer(processor(images=SCENE, text=TEXT), 2).overlay(object())  # pyright: ignore[reportArgumentType]
