"""Any picture file -> an RGB image, upright, or one sentence that says what is wrong with it."""

import difflib
import os
import re
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from deltaprune._checks import check_local
from deltaprune._registry import UserError

MAX_MEGAPIXELS = 100  # a larger file is a bomb or a mistake: the towers see at most 384 x 384
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    AttributeError,
    AssertionError,  # PIL: the file was closed before its pixels were read
    struct.error,
)
_SIGNATURES = {b"\x89PNG": "PNG", b"\xff\xd8": "JPEG", b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
_SIZES = {"PNG": (">II", 16), "GIF": ("<HH", 6), "BMP": ("<ii", 18)}  # where width and height stand in the header


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """Read a picture completely: EXIF orientation applied, transparency on white, first frame, 8-bit RGB.

    Raises:
        UserError: there is no such file, it cannot be read, it is no image, it is damaged, or it has no pixels or
            more than `MAX_MEGAPIXELS` (read from the header, before anything is decoded).
    """
    file = Path(path)
    _check_file(file)
    with _pil_errors(file), Image.open(file) as image:
        _check_size(image.size, repr(str(file)))
        image.load()
        return to_rgb(_upright(image))


def check_image(image: object) -> None:
    """A picture given from Python is a PIL image that decodes and has a sensible number of pixels.

    Raises:
        UserError: it is not.
    """
    if not isinstance(image, Image.Image):
        raise UserError(
            f"A {type(image).__name__} is not an image: give a PIL image, such as PIL.Image.open(path) or "
            "PIL.Image.fromarray(array)."
        )
    _check_size(image.size, "The image")
    try:
        image.load()
    except _DAMAGED as error:
        raise UserError(f"The image cannot be decoded ({_reason(error)}): its file is damaged or closed.") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB: transparency is laid on white, and 16-bit, 32-bit and float greys are scaled, not clipped.

    Greys are divided by 257 where they fit 16 bits; floats in [0, 1] are multiplied by 255; wider ranges are stretched
    from their own minimum and maximum.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        return _grey_8_bit(np.asarray(image)).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _grey_8_bit(grey: np.ndarray) -> Image.Image:
    """Wide greys -> mode L, see `to_rgb`."""
    precise = np.float32 if grey.itemsize <= 2 else np.float64
    values = np.nan_to_num(grey.astype(precise), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    top = 1.0 if grey.dtype.kind == "f" else 65535.0
    if low >= 0 and high <= top:
        low, high = 0.0, top
    scaled = (values - low) * (255 / (high - low)) if high > low else np.zeros_like(values)
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF data says; unreadable EXIF data says nothing."""
    try:
        return ImageOps.exif_transpose(image)
    except _DAMAGED:
        return image


def _check_file(file: Path) -> None:
    """There is a regular, non-empty file."""
    try:
        status = file.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(_missing(file)) from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"{str(file)!r} cannot be read ({_reason(error)}): give the path of a readable image."
        ) from error
    if stat.S_ISDIR(status.st_mode):
        raise UserError(f"{str(file)!r} is a directory: give the path of one image inside it.")
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{str(file)!r} is a pipe or a device: save the image to a file and give its path.")
    if status.st_size == 0:
        raise UserError(f"{str(file)!r} is empty (0 bytes): give an image that was saved completely.")


def _missing(file: Path) -> str:
    """What to say of a path that leads nowhere, with the nearest name in its folder."""
    check_local("The image", file)
    if not file.parent.is_dir():
        return f"There is no image {str(file)!r}: the folder {str(file.parent)!r} does not exist."
    try:
        names = {name.lower(): name for name in sorted(os.listdir(file.parent))}
    except OSError:
        names = {}
    near = difflib.get_close_matches(file.name.lower(), names, n=1)
    if not near:
        return f"There is no image {str(file)!r}, and nothing with a similar name beside it: check the path."
    return f"There is no image {str(file)!r}: did you mean {str(file.with_name(names[near[0]]))!r}?"


def _check_size(size: tuple[int, int], what: str) -> None:
    width, height = size
    if width * height == 0:
        raise UserError(f"{what} has no pixels ({width} x {height}): an image is at least 1 x 1.")
    if width * height > MAX_MEGAPIXELS * 1_000_000:
        raise UserError(_too_large(what, width * height, f" ({width} x {height})"))


def _too_large(what: str, pixels: int, size: str = "") -> str:
    megapixels = pixels / 1_000_000
    shown = f"{megapixels:.0f}" if megapixels >= MAX_MEGAPIXELS + 0.5 else f"{megapixels:.6g}"
    return f"{what} has {shown} megapixels{size}: the limit is {MAX_MEGAPIXELS}, so scale it down first."


@contextmanager
def _pil_errors(file: Path) -> Iterator[None]:
    """What PIL raises, in one sentence; what it only warns of is not worth one."""
    name = repr(str(file))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"{name} cannot be read: you lack the permission (see its mode with ls -l).") from error
    except UnidentifiedImageError as error:
        raise UserError(_unidentified(file)) from error
    except Image.DecompressionBombError as error:
        found = re.search(r"\((\d+) pixels\)", str(error))
        pixels = int(found[1]) if found else 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UserError(_too_large(name, pixels)) from error
    except _DAMAGED as error:
        raise UserError(f"{name} is damaged or cut short ({_reason(error)}): save or download it again.") from error


def _unidentified(file: Path) -> str:
    """What to say of a file that PIL does not know: a broken header, or no image at all."""
    with file.open("rb") as opened:
        head = opened.read(32)
    kind = next((kind for start, kind in _SIGNATURES.items() if head.startswith(start)), None)
    name = repr(str(file))
    if kind is None:
        known = "PNG, JPEG, WebP, GIF, TIFF, BMP or another format that PIL reads"
        return f"{name} is not an image, whatever its name says: its content must be {known}."
    if kind in _SIZES:
        form, at = _SIZES[kind]
        if len(head) >= at + struct.calcsize(form):
            width, height = struct.unpack_from(form, head, at)
            if width == 0 or height == 0:
                return f"{name} has no pixels ({width} x {height}): an image is at least 1 x 1."
    return f"{name} begins like a {kind} file but its header is damaged or cut short: save or download it again."


def _reason(error: BaseException) -> str:
    """An error's own words on one line, without a period."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(words.split()).rstrip(".") or type(error).__name__
