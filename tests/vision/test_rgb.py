"""One rule for orientation, transparency and depth, whatever PIL or numpy made of a picture."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import png_files
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import ExifTags, Image
from png_files import png, transparent

from deltaprune.errors import UserError
from deltaprune.vision.images import decode_image, open_image, to_rgb
from deltaprune.vision.rgb import TURNS, array_image, eight_bits


def pixels(image: Image.Image) -> Any:
    assert image.mode == "RGB"
    assert image.info == {}
    return np.asarray(image)


def decoded(content: bytes) -> Any:
    """As a file; the same picture handed over as PIL opened it must not differ."""
    read = pixels(decode_image(content, "it"))
    assert np.array_equal(pixels(to_rgb(Image.open(io.BytesIO(content)))), read)
    return read


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("clear", [False, True])
def test_grey_png_files_of_every_depth(depth: int, clear: bool) -> None:
    """The darkest level is black, the brightest white; a transparent one is white and no other changes."""
    top = 2**depth - 1
    levels = np.unique(np.array([0, 1, top // 3, top // 2, top - 1, top]))
    chosen = int(levels[len(levels) // 2])
    file = png(levels[None, :, None], png_files.GREY, depth, transparent(chosen) if clear else b"")
    expected = np.rint(levels * 255 / top).astype(int)
    if clear:
        expected[levels == chosen] = 255
    assert decoded(file)[0].tolist() == [[level] * 3 for level in expected]


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("clear", [False, True])
def test_colour_png_files_of_both_depths(depth: int, clear: bool) -> None:
    """The transparent colour is blue: at 16 bits PIL names it by numbers no pixel of its own can have."""
    top = 2**depth - 1
    levels = np.array([[[top, 0, 0], [0, 0, top], [0, 0, 0], [top // 2, top, 0]]])
    file = png(levels, png_files.RGB, depth, transparent(0, 0, top) if clear else b"")
    blue = [255, 255, 255] if clear else [0, 0, 255]
    assert decoded(file)[0].tolist() == [[255, 0, 0], blue, [0, 0, 0], [127, 255, 0]]


def test_a_dark_transparent_colour_of_16_bits() -> None:
    """Its numbers fit 8 bits, where they would mean other colours."""
    levels = np.array([[[0, 0, 255], [0, 0, 65535]]])
    file = png(levels, png_files.RGB, 16, transparent(0, 0, 255))
    assert decoded(file)[0].tolist() == [[255, 255, 255], [0, 0, 255]]


@pytest.mark.parametrize("depth", [8, 16])
def test_alpha_of_both_depths_is_laid_on_white(depth: int) -> None:
    top = 2**depth - 1
    half = 128 * top // 255
    colours = np.array([[[top, 0, 0, half], [0, 0, 0, 0], [0, 0, 0, top]]])
    assert decoded(png(colours, png_files.RGBA, depth))[0].tolist() == [[255, 127, 127], [255] * 3, [0] * 3]
    greys = np.array([[[0, half], [0, 0], [0, top]]])
    assert decoded(png(greys, png_files.GREY_ALPHA, depth))[0].tolist() == [[127] * 3, [255] * 3, [0] * 3]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palettes_with_and_without_alpha(depth: int) -> None:
    palette = png_files.chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255]))
    levels = np.array([[[0], [1]]])
    assert decoded(png(levels, png_files.PALETTE, depth, palette))[0].tolist() == [[255, 0, 0], [0, 0, 255]]
    for alpha, red in ((b"\0", 255), (b"\x80", 127)):
        file = png(levels, png_files.PALETTE, depth, palette + png_files.chunk(b"tRNS", alpha))
        assert decoded(file)[0].tolist() == [[255, red, red], [0, 0, 255]]


@pytest.mark.parametrize("mode", Image.MODES)
def test_every_mode_of_pil_becomes_rgb(mode: str) -> None:
    image = Image.new(mode, (5, 4))
    assert pixels(to_rgb(image)).shape == (4, 5, 3)
    assert image.mode == mode


@pytest.mark.parametrize("orientation", [*TURNS, 1, 9, 0])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I", "F", "I;16"])
def test_pictures_of_every_depth_are_turned(mode: str, orientation: int) -> None:
    """Against PIL's own turning of the same picture."""
    levels = np.arange(6).reshape(2, 3) * (10_000 if mode == "I;16" else 40)
    if mode in ("I", "F", "I;16"):
        image = Image.fromarray(levels.astype({"I": np.int32, "F": np.float32, "I;16": np.uint16}[mode]))
    else:
        image = Image.fromarray(levels.astype(np.uint8)).convert(mode)
    upright = pixels(to_rgb(image))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    lying = image.copy()
    lying.info["exif"] = exif.tobytes()
    turned = to_rgb(lying)
    wanted = Image.fromarray(upright)
    wanted = wanted.transpose(TURNS[orientation]) if orientation in TURNS else wanted
    assert np.array_equal(pixels(turned), np.asarray(wanted))
    assert np.array_equal(pixels(to_rgb(turned)), pixels(turned))  # once is enough


def test_orientation_counts_even_where_the_rest_of_the_exif_data_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (5, 4)).save(tmp_path / "x.jpg", exif=exif)

    def fail(*_: object) -> bytes:
        raise ValueError("no such tag")

    monkeypatch.setattr(Image.Exif, "tobytes", fail)
    assert open_image(tmp_path / "x.jpg").size == (4, 5)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.uint32, np.float16, np.float32, np.float64])
def test_levels_up_to_255_stand_in_every_type(dtype: type) -> None:
    levels = np.array([[0, 100, 255]]).astype(dtype)
    assert eight_bits(levels).tolist() == [[0, 100, 255]]
    assert pixels(to_rgb(array_image(levels)))[0, :, 0].tolist() == [0, 100, 255]
    if dtype in (np.int32, np.float32):
        assert pixels(to_rgb(Image.fromarray(levels)))[0, :, 0].tolist() == [0, 100, 255]


@settings(deadline=None)
@given(arrays.arrays(np.uint8, st.tuples(*[st.integers(1, 5)] * 2, st.sampled_from([1, 3, 4]))))
def test_every_way_to_write_the_same_picture_is_the_same(levels: np.ndarray) -> None:
    """8 bits as floats in 0..1 and as 16 bits; the channels last or first."""
    expected = pixels(to_rgb(array_image(levels)))
    shares = levels / np.float32(255)
    for written in (levels.astype(np.uint16) * 257, shares, shares.astype(np.float64)):
        assert np.array_equal(pixels(to_rgb(array_image(written))), expected)
    if levels.shape[1] > 4:
        assert np.array_equal(pixels(to_rgb(array_image(np.moveaxis(levels, -1, 0)))), expected)
    if levels.max() > 1:
        assert np.array_equal(pixels(to_rgb(array_image(levels.astype(np.float64)))), expected)
        assert np.array_equal(pixels(to_rgb(array_image(levels.astype(np.int32)))), expected)
    if levels.shape[-1] == 1:
        assert np.array_equal(pixels(to_rgb(array_image(levels[..., 0]))), expected)


def test_arrays_with_alpha_are_laid_on_white() -> None:
    half = np.array([[[1.0, 0.0, 0.0, 128 / 255], [0.0, 0.0, 0.0, 0.0]]])
    assert pixels(to_rgb(array_image(half)))[0].tolist() == [[255, 127, 127], [255, 255, 255]]
    grey = np.array([[[0, 0], [100, 255]]], dtype=np.uint8)
    assert pixels(to_rgb(array_image(grey)))[0].tolist() == [[255] * 3, [100] * 3]


def test_booleans_and_what_rounding_put_beyond_the_ends() -> None:
    assert eight_bits(np.array([[0, 200, 65535]], dtype=">u2")).tolist() == [[0, 1, 255]]
    assert eight_bits(np.array([[True, False]])).tolist() == [[255, 0]]
    assert eight_bits(np.array([[[-1e-3, 0.5, 1 + 1e-3]]])).tolist() == [[[0, 128, 255]]]
    assert eight_bits(np.array([[np.nan, np.inf, 1.0]])).tolist() == [[0, 0, 255]]


def test_greys_beyond_every_range_are_stretched() -> None:
    assert eight_bits(np.array([[-2.0, 0.0, 2.0]])).tolist() == [[0, 128, 255]]
    assert eight_bits(np.array([[0, 100_000]])).tolist() == [[0, 255]]
    assert eight_bits(np.array([[70_000, 70_000]])).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.array([[[-2.1, 0.0, 2.6]]]), r"colours reach from -2\.1 to 2\.6: they must lie in 0\.\.1"),
        (np.zeros((2, 3, 5, 7)), r"array of shape \(2, 3, 5, 7\): give \(H, W\)"),
        (np.zeros(4), r"array of shape \(4,\)"),
        (np.zeros((9, 9, 9)), r"array of shape \(9, 9, 9\)"),
        (np.zeros((0, 4, 3)), r"has no pixels \(an array of shape \(0, 4, 3\)\)"),
        (np.array([["a"]]), "array of dtype <U1"),
        (np.array([[1j]]), "array of dtype complex128"),
        (np.array([[None]]), "array of dtype object"),
    ],
)
def test_arrays_that_are_no_picture(array: np.ndarray, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        array_image(array)
    assert str(error.value).endswith(".")
