"""The picture of a request: a data URI, or, where the server allows it, a public http address."""

import base64
import binascii
import hashlib
import re
from io import BytesIO

from PIL import Image

from deltaprune.errors import UserError
from deltaprune.serve.addresses import fetch
from deltaprune.serve.errors import ApiError
from deltaprune.serve.settings import Settings
from deltaprune.vision.images import decode_image

NAME = "The image"
PARAM = "messages"
_DATA = re.compile(r"data:(?P<type>[\w.+/-]*)(;[\w.+-]+=[^;,]*)*;base64,", re.ASCII | re.IGNORECASE)


def picture_file(url: str, settings: Settings) -> tuple[bytes, str]:
    """The content of a picture's file, and its SHA-256 in hexadecimal.

    Raises:
        ApiError: it is neither a data URI nor an address that may be read, it cannot be read, or it is too large.
    """
    content = _content(url, settings)
    return content, hashlib.sha256(content).hexdigest()


def _content(url: str, settings: Settings) -> bytes:
    begin = _DATA.match(url)
    if begin is not None:
        kind = begin["type"]
        if kind and not kind.lower().startswith("image/") and kind != "application/octet-stream":
            raise _bad(f"The image's data URI is of type {kind[:40]}: it must be an image, such as image/png.")
        try:
            content = base64.b64decode(url[begin.end() :], validate=True)
        except (binascii.Error, ValueError) as error:
            raise _bad("The image's data URI is no valid base64: encode the file again.") from error
        if not content:
            raise _bad("The image's data URI is empty: it must hold an image file in base64.")
        return content
    if not re.match(r"(?i)https?://", url):
        raise _bad(f"The image's url {url[:40]!r} is no data URI: give data:image/png;base64,... .")
    if not settings.allow_urls:
        raise _bad("This server reads no pictures from the web: send the image as a data URI.")
    return fetch(url, settings.max_body)


def read_picture(content: bytes, settings: Settings) -> Image.Image:
    """The picture, upright and RGB.

    Raises:
        ApiError: it is damaged, no image, or has too many pixels, which its header tells before it is decoded.
    """
    try:
        with Image.open(BytesIO(content)) as header:
            width, height = header.size
    except Exception:  # `decode_image` says what is wrong with it
        width = height = 0
    if width * height > settings.max_pixels:
        most = f"{settings.max_pixels / 1e6:g}"
        raise _bad(f"The image has {width} x {height} pixels: the limit is {most} megapixels, so scale it down first.")
    try:
        return decode_image(content, NAME)
    except UserError as error:
        raise _bad(str(error)) from error


def _bad(message: str) -> ApiError:
    return ApiError(400, message, PARAM, "invalid_image")
