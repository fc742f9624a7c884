"""A benchmark's pictures: opened only when asked for, and never replaced by a blank."""

from pathlib import Path
from typing import NamedTuple

from PIL import Image

from deltaprune.errors import UserError
from deltaprune.vision.images import open_image


class Picture(NamedTuple):
    """Reads a picture file when called. It can be sent to another process."""

    folder: str
    name: str

    def __call__(self) -> Image.Image:
        """The picture, see `open_picture`."""
        return open_picture(Path(self.folder, self.name))


def open_picture(file: Path) -> Image.Image:
    """The whole picture as RGB, read like any other picture here.

    The official harnesses read `Image.open(file).convert("RGB")`, which differs where a file has an EXIF orientation,
    transparency, or more than 8 bits (docs/guides/models.md).

    Raises:
        UserError: no such file, or one that cannot be decoded to its end.
    """
    if not file.is_file():
        raise UserError(f"There is no picture {str(file)!r}: unpack the benchmark's images again, or check `images`.")
    return open_image(file)
