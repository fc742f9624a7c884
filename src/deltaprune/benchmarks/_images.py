"""A benchmark's pictures: opened only when asked for, and never replaced by a blank."""

import struct
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from deltaprune._registry import UserError, in_words

_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    AttributeError,
    AssertionError,
    struct.error,
    Image.DecompressionBombError,
)


class Picture(NamedTuple):
    """Reads a picture file when called. It can be sent to another process."""

    folder: str
    name: str

    def __call__(self) -> Image.Image:
        """The picture, see `open_picture`."""
        return open_picture(Path(self.folder, self.name))


def open_picture(file: Path) -> Image.Image:
    """The whole picture as RGB, pixels as stored: the official harnesses do not turn it as EXIF says, nor does this.

    Raises:
        UserError: no such file, or one that cannot be decoded to its end.
    """
    if not file.is_file():
        raise UserError(f"There is no picture {str(file)!r}: unpack the benchmark's images again, or check `images`.")
    try:
        with Image.open(file) as image:
            return decoded(image)
    except _DAMAGED as error:
        raise UserError(
            f"The picture {str(file)!r} is damaged ({in_words(error)}): unpack or download it again."
        ) from error


def decoded(image: Image.Image) -> Image.Image:
    """An opened picture as RGB, which reads it to its end."""
    return image.convert("RGB")
