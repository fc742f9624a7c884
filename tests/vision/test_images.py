"""Every kind of file ends in an upright 8-bit RGB image or in one sentence."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deltaprune.errors import UserError
from deltaprune.vision.images import open_image, to_rgb

WIDTH, HEIGHT = 24, 16


@pytest.fixture
def picture() -> Image.Image:
    """Left half red, right half blue, the top row green: no two orientations are alike."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels[:, : WIDTH // 2] = (255, 0, 0)
    pixels[:, WIDTH // 2 :] = (0, 0, 255)
    pixels[0] = (0, 255, 0)
    return Image.fromarray(pixels)


def sentence(path: Path | str) -> str:
    """The one sentence with which a file is refused."""
    with pytest.raises(UserError) as error:
        open_image(path)
    text = str(error.value)
    assert "\n" not in text
    assert text[-1] in ".?"
    return text


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


def bmp(width: int, height: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_rgb_comes_back_as_it_was(form: str, picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "x", form, **({"lossless": True} if form == "WEBP" else {}))
    opened = open_image(tmp_path / "x")
    assert opened.mode == "RGB"
    assert np.array_equal(np.asarray(opened), np.asarray(picture))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, picture: Image.Image, tmp_path: Path) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = picture if orientation == 1 else picture.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(np.asarray(open_image(tmp_path / "x.png")), np.asarray(picture))


def test_broken_exif_data_does_not_matter(picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05broken")
    assert open_image(tmp_path / "x.jpg").size == (WIDTH, HEIGHT)


def test_half_transparent_red_is_pink_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.save(tmp_path / "x.png")
    opened = open_image(tmp_path / "x.png")
    assert opened.getpixel((0, 0)) == (255, 255, 255)
    assert opened.getpixel((1, 1)) == (255, 127, 127)


def test_transparent_grey_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("LA", (4, 4), (0, 0))
    image.putpixel((1, 1), (100, 255))
    image.save(tmp_path / "x.png")
    opened = open_image(tmp_path / "x.png")
    assert opened.getpixel((0, 0)) == (255, 255, 255)
    assert opened.getpixel((1, 1)) == (100, 100, 100)


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_a_transparent_palette_colour_is_white(form: str, tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 1), 1)
    image.save(tmp_path / "x", form, transparency=0)
    opened = open_image(tmp_path / "x")
    assert opened.getpixel((0, 0)) == (255, 255, 255)
    assert opened.getpixel((1, 1)) == (200, 100, 50)


def test_an_rgb_image_may_name_a_transparent_colour(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "x.png", transparency=(1, 2, 3))
    assert open_image(tmp_path / "x.png").getpixel((0, 0)) == (255, 255, 255)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "x.jpg", quality=100)
    red, green, blue = np.asarray(open_image(tmp_path / "x.jpg"))[8, 8]
    assert red > 250
    assert green < 5
    assert blue < 5


@pytest.mark.parametrize(("mode", "white"), [("L", 255), ("1", 1)])
def test_grey_and_one_bit(mode: str, white: int, tmp_path: Path) -> None:
    image = Image.new(mode, (4, 4), 0)
    image.putpixel((1, 0), white)
    image.save(tmp_path / "x.png")
    opened = open_image(tmp_path / "x.png")
    assert opened.getpixel((1, 0)) == (255, 255, 255)
    assert opened.getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(form: str, tmp_path: Path) -> None:
    levels = np.array([[0, 257, 25700, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(levels).save(tmp_path / "x", form)
    opened = np.asarray(open_image(tmp_path / "x"))
    assert opened[0, :, 0].tolist() == [0, 1, 100, 128, 255]


def test_big_endian_and_32_bit_greys() -> None:
    wide = Image.fromarray(np.array([[0, 65535]], dtype=np.int32))
    assert np.asarray(to_rgb(wide))[0, :, 0].tolist() == [0, 255]
    wider = Image.fromarray(np.array([[-1_000_000, 0, 1_000_000]], dtype=np.int32))
    assert np.asarray(to_rgb(wider))[0, :, 0].tolist() == [0, 128, 255]
    big = Image.frombytes("I;16B", (2, 1), bytes([0x64, 0x64, 0xFF, 0xFF]))
    assert np.asarray(to_rgb(big))[0, :, 0].tolist() == [100, 255]


def test_float_greys() -> None:
    share = Image.fromarray(np.array([[0.0, 0.5, 1.0, np.nan]], dtype=np.float32))
    assert np.asarray(to_rgb(share))[0, :, 0].tolist() == [0, 128, 255, 0]
    levels = Image.fromarray(np.array([[0.0, 7.4, 255.0]], dtype=np.float32))
    assert np.asarray(to_rgb(levels))[0, :, 0].tolist() == [0, 7, 255]
    beyond = Image.fromarray(np.array([[-300.0, 0.0, 300.0]], dtype=np.float32))
    assert np.asarray(to_rgb(beyond))[0, :, 0].tolist() == [0, 128, 255]
    flat = Image.fromarray(np.full((1, 2), 1e6, dtype=np.float32))
    assert np.asarray(to_rgb(flat)).max() == 0


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation(form: str, picture: Image.Image, tmp_path: Path) -> None:
    others = [Image.new("RGB", picture.size, colour) for colour in ("white", "black")]
    lossless = {"lossless": True} if form == "WEBP" else {}
    picture.save(tmp_path / "x", form, save_all=True, append_images=others, duration=50, **lossless)
    with Image.open(tmp_path / "x") as animation:
        assert getattr(animation, "n_frames", 1) == 3
    assert np.array_equal(np.asarray(open_image(tmp_path / "x")), np.asarray(picture))


def test_a_missing_file_names_its_nearest_neighbour(picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "Kitchen.png")
    assert f"did you mean {str(tmp_path / 'Kitchen.png')!r}?" in sentence(tmp_path / "kitchne.png")
    assert "check the path" in sentence(tmp_path / "zzz")
    assert "does not exist" in sentence(tmp_path / "nowhere" / "x.png")
    assert "does not exist" in sentence(tmp_path / "Kitchen.png" / "x.png")
    assert "download" in sentence("https://example.org/cat.png")


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    assert "is a directory" in sentence(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "pipe or a device" in sentence(tmp_path / "pipe")
    assert "cannot be read" in sentence("x\0y")
    assert "cannot be read" in sentence(tmp_path / ("x" * 5000))


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    assert "is empty" in sentence(tmp_path / "x.png")


def test_text_named_png(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("no picture at all")
    assert "is not an image" in sentence(tmp_path / "x.png")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.03, 0.5, 0.9])
def test_a_truncated_image(form: str, share: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, form)
    (tmp_path / "x").write_bytes(whole.getvalue()[: int(share * len(whole.getvalue()))])
    assert "damaged or cut short" in sentence(tmp_path / "x")


@pytest.mark.parametrize("header", [png(0, 5), png(5, 0), bmp(0, 5), bmp(5, 0)])
def test_no_pixels(header: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(header)
    assert "has no pixels" in sentence(tmp_path / "x")


@pytest.mark.parametrize(
    ("header", "megapixels"),
    [(png(10_001, 10_000), "100.01"), (png(20_000, 10_000), "200"), (bmp(60_000, 60_000), "3600")],
)
def test_an_absurd_size_is_refused_by_the_header(header: bytes, megapixels: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(header)  # there is nothing to decode: only the header can have told
    assert f"has {megapixels} megapixels" in (text := sentence(tmp_path / "x"))
    assert "the limit is 100" in text


def test_a_large_image_within_the_limit_is_read_without_a_warning(tmp_path: Path) -> None:
    Image.new("1", (10_000, 9_500)).save(tmp_path / "x.png")
    assert open_image(tmp_path / "x.png").size == (10_000, 9_500)


def test_lack_of_permission(picture: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture.save(tmp_path / "x.png")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)  # the tests may run as root, whom no mode stops
    assert "permission" in sentence(tmp_path / "x.png")


def test_images_given_from_python(picture: Image.Image, tmp_path: Path) -> None:
    assert np.array_equal(np.asarray(to_rgb(picture)), np.asarray(picture))
    with pytest.raises(UserError, match="The image has no pixels"):
        to_rgb(Image.new("RGB", (0, 3)))
    picture.save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as closed:
        pass
    with pytest.raises(UserError, match=r"The image is damaged .* closed"):
        to_rgb(closed)
