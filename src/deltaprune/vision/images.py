"""A picture from a file or from PIL -> an upright RGB image, or one sentence that says what is wrong with it."""

import difflib
import os
import stat
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from PIL import Image

from deltaprune.checks import check_local
from deltaprune.errors import UserError
from deltaprune.vision.refusals import check_readable, reading, reason
from deltaprune.vision.rgb import rgb

HEAD = 512  # bytes from which a format is recognised


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """Read a picture file completely: its first frame, by the one rule of `to_rgb`.

    Raises:
        UserError: there is no such file, it cannot be read, it is no image, its format is not supported, it is damaged,
            or it has no pixels or more than `MAX_MEGAPIXELS` (read from the header, before anything is decoded).
    """
    file = Path(path)
    _check_file(file)
    return _decode(file, repr(str(file)), lambda: _head(file))


def decode_image(content: bytes, name: str) -> Image.Image:
    """`open_image` for a file that is in memory; `name` is what a sentence calls it."""
    return _decode(BytesIO(content), name, lambda: content[:HEAD])


def to_rgb(image: Image.Image, name: str = "The image") -> Image.Image:
    """A PIL picture as 8-bit RGB: EXIF orientation applied, transparency on white, deeper greys scaled, see `rgb`.

    Args:
        image: the picture; it is not changed.
        name: what a sentence calls it.

    Raises:
        UserError: it cannot be decoded, or has no pixels or more than `MAX_MEGAPIXELS`.
    """
    with reading(name):
        check_readable(image, name)
        return rgb(image)


def _decode(file: Path | BytesIO, name: str, head: Callable[[], bytes]) -> Image.Image:
    with reading(name, head), Image.open(file) as image:
        check_readable(image, name)
        return rgb(image)


def _head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(HEAD)


def _check_file(file: Path) -> None:
    """Check that there is a regular, non-empty file."""
    try:
        status = file.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(_missing(file)) from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"{str(file)!r} cannot be read ({reason(error)}): give the path of a readable image."
        ) from error
    if stat.S_ISDIR(status.st_mode):
        raise UserError(f"{str(file)!r} is a directory: give the path of one image inside it.")
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{str(file)!r} is a pipe or a device: save the image to a file and give its path.")
    if status.st_size == 0:
        raise UserError(f"{str(file)!r} is empty (0 bytes): give an image that was saved completely.")


def _missing(file: Path) -> str:
    """The message about a path that does not exist, with the nearest name in its folder."""
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
