"""Kept patches in full colour, dropped ones grey and darker, and the caption says how many."""

import numpy as np
import pytest
from PIL import Image

from deltaprune.analysis import overlay, side_by_side
from deltaprune.errors import UserError
from deltaprune.overlay import _caption

NONE = np.array([], dtype=np.int64)


def centres(drawn: Image.Image, size: tuple[int, int], grid: tuple[int, int]) -> np.ndarray:
    """The colours beside the stroke through each patch `(rows, columns, 3)`; `size` is that of the drawn picture."""
    rows, columns = grid
    left = (drawn.width - size[0]) // 2
    xs = [left + int((column + 0.5) * size[0] / columns) for column in range(columns)]
    ys = [int((row + 0.3) * size[1] / rows) for row in range(rows)]
    return np.asarray(drawn)[np.ix_(ys, xs)].astype(int)


def is_grey(colours: np.ndarray) -> np.ndarray:
    return (colours.max(-1) - colours.min(-1)) < 3


def test_only_the_kept_patches_keep_their_colour() -> None:
    picture = Image.new("RGB", (40, 40), (200, 40, 40))
    kept = np.array([0, 5, 15])
    colours = centres(overlay(picture, [kept], (4, 4)), (480, 480), (4, 4)).reshape(16, 3)
    assert np.flatnonzero(~is_grey(colours)).tolist() == kept.tolist()
    assert np.abs(colours[kept] - (200, 40, 40)).max() < 3
    dropped = np.setdiff1d(np.arange(16), kept)
    assert colours[dropped].max() < 0.5 * np.dot((0.299, 0.587, 0.114), (200, 40, 40))


def test_the_grid_is_stretched_over_a_wide_picture() -> None:
    picture = Image.new("RGB", (600, 150), (40, 40, 200))
    drawn = overlay(picture, [np.array([2])], (2, 3))  # the upper right patch of 2 x 3
    colours = centres(drawn, (600, 150), (2, 3))
    assert np.argwhere(~is_grey(colours)).tolist() == [[0, 2]]


@pytest.mark.parametrize(
    ("size", "shown"),
    [((16, 8), (480, 240)), ((600, 600), (600, 600)), ((5000, 2500), (1280, 640)), ((2, 2000), (60, 1280))],
)
def test_the_long_side_comes_into_range(size: tuple[int, int], shown: tuple[int, int]) -> None:
    drawn = overlay(Image.new("RGB", size, "red"), [], (10, 10))
    assert drawn.mode == "RGB"
    assert drawn.width >= shown[0]
    assert drawn.height > shown[1]
    assert not is_grey(centres(drawn, shown, (10, 10))).any()


def test_a_patch_is_darker_the_earlier_it_was_dropped() -> None:
    kept = [np.array([0, 1]), np.array([0]), NONE]
    colours = centres(overlay(Image.new("RGB", (480, 480), "red"), kept, (1, 3)), (480, 480), (1, 3))[0]
    assert is_grey(colours).tolist() == [False, True, True]
    assert colours[1].max() > colours[2].max() + 10


@pytest.mark.parametrize("colour", ["black", "white", (128, 128, 128), (97, 97, 97)], ids=str)
def test_what_was_dropped_is_seen_on_any_picture(colour) -> None:
    """Darkening does not show on black: a stroke with a light core and a dark rim does, and kept patches have none."""
    drawn = np.asarray(overlay(Image.new("RGB", (480, 480), colour), [np.array([0])], (2, 2)).convert("L")).astype(int)
    kept, dropped = drawn[10:230, 10:230], drawn[10:230, 250:470]
    assert np.ptp(kept) == 0
    assert dropped.max() - dropped.min() > 100
    changed = np.abs(dropped - kept[0, 0]) > 40
    assert changed.any(0).mean() > 0.6  # from one side of the patch to the other
    assert changed.any(1).mean() > 0.6


def test_the_first_stage_crosses_out_and_later_ones_strike() -> None:
    drawn = np.asarray(overlay(Image.new("RGB", (480, 480)), [np.array([0, 1]), np.array([0])], (2, 2)).convert("L"))
    later, first = drawn[10:230, 250:470], drawn[250:470, 10:230]
    falling = [np.array([patch[i, i] for i in range(60, 160)]) for patch in (later, first)]
    assert [int((values > 100).sum()) > 50 for values in falling] == [False, True]


def test_pictures_stand_side_by_side() -> None:
    red, blue = Image.new("RGB", (30, 20), "red"), Image.new("RGB", (40, 50), "blue")
    both = side_by_side([red, blue])
    assert both.size == (82, 50)
    assert (both.getpixel((10, 10)), both.getpixel((60, 40))) == ((255, 0, 0), (0, 0, 255))
    assert min(both.getpixel((10, 40))) > 240  # paper


def test_withdrawal_alone_greys_everything() -> None:
    assert is_grey(centres(overlay(Image.new("RGB", (480, 480), "red"), [NONE], (3, 3)), (480, 480), (3, 3))).all()


def test_the_caption_counts() -> None:
    kept = [np.arange(50), NONE]
    assert _caption(kept, 100, (4, 12)) == ["50 of 100 visual tokens kept after layer 4", "all dropped after layer 12"]
    assert _caption([], 100, None) == ["all 100 visual tokens kept"]
    assert _caption([NONE], 9, (2,)) == ["all visual tokens dropped after layer 2"]
    assert _caption([np.arange(3), np.arange(2)], 9, None) == [
        "3 of 9 visual tokens kept by stage 1",
        "2 of 9 kept by stage 2",
    ]


def test_the_caption_is_drawn_below_and_inside() -> None:
    drawn = np.asarray(overlay(Image.new("RGB", (480, 480), "red"), [np.arange(9), NONE], (3, 3), (4, 12)))
    strip = drawn[480:]
    assert strip.min() < 60
    edges = np.concatenate([strip[:, :2].ravel(), strip[:, -2:].ravel(), strip[-2:].ravel()])
    assert edges.min() > 240


@pytest.mark.parametrize(
    ("kept", "after", "sentence"),
    [
        ([np.array([9])], None, "numbered 0 to 8"),
        ([np.array([-1])], None, "numbered 0 to 8"),
        ([NONE], (1, 2), "one layer per stage"),
    ],
)
def test_mistakes_are_told(kept: list[np.ndarray], after: tuple[int, ...] | None, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        overlay(Image.new("RGB", (9, 9)), kept, (3, 3), after)
