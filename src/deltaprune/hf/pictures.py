"""Pictures as transformers' users name them: what `images=` takes everywhere, and web addresses and base64 texts."""

import base64
import os
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.request import Request, urlopen

from PIL import Image

from deltaprune.errors import UserError, in_words
from deltaprune.mllm.pictures import read_picture, read_pictures
from deltaprune.vision.images import decode_image, open_image

SOURCES = ("image", "url", "path", "base64")  # where a chat's image part holds its picture
ADDRESSES = ("http://", "https://")
DATA = "data:image/"
LONGEST_PATH = 1024
TIMEOUT = 60  # seconds


def read_all(images: Any) -> list[Image.Image]:
    """One or several pictures, or lists of one, as upright RGB.

    Raises:
        UserError: a list of several for one row, or something that is no picture or cannot be read.
    """
    if isinstance(images, str):
        return [read_text(images)]
    if not isinstance(images, list | tuple):
        return read_pictures(images)
    nested = [each for each in images if isinstance(each, list | tuple)]
    if any(len(each) != 1 for each in nested):
        raise UserError(f"{[len(each) for each in nested]} images were given for the rows: each row takes one.")
    flat = [each[0] if isinstance(each, list | tuple) else each for each in images]
    return [read_text(each) if isinstance(each, str) else read_picture(each, n) for n, each in enumerate(flat, 1)]


def read_text(source: str) -> Image.Image:
    """A path, a web address or a base64 text, as upright RGB.

    transformers' reader is not used: it would clip 16-bit pictures to white and ignore transparency.

    Raises:
        UserError: it is none of these, or holds no picture.
    """
    if source.startswith(ADDRESSES):
        return decode_image(_download(source), repr(source[:80]))
    is_data = source.startswith(DATA)
    if not is_data and os.path.exists(source):
        return open_image(source)
    may_be_path = not is_data and len(source) <= LONGEST_PATH
    name = f"The text of {len(source)} letters"
    try:
        letters = "".join((source.partition(",")[2] if is_data else source).split())
        return decode_image(base64.b64decode(letters, validate=True), name)
    except (ValueError, UserError) as error:
        if may_be_path:
            return open_image(source)  # says what is wrong with the path
        if isinstance(error, UserError):
            raise
        raise UserError(f"{name} is no base64 image: pass the image itself.") from error


def _download(address: str) -> bytes:
    """What is found at a web address, else a `UserError`."""
    try:
        with urlopen(Request(address, headers={"User-Agent": "deltaprune"}), timeout=TIMEOUT) as answer:
            return answer.read()
    except (OSError, ValueError, HTTPException) as error:
        raise UserError(f"{address[:80]!r} gives no image ({in_words(error)}): download it, and pass it.") from error


def picture_of(part: Mapping[str, Any]) -> Image.Image:
    """The picture of a chat's image part.

    Raises:
        UserError: it holds none, or one that cannot be read.
    """
    if part["type"] == "image_url":
        source = part["image_url"]
        source = source["url"] if isinstance(source, Mapping) else source
    else:
        sources = [part[key] for key in SOURCES if key in part]
        if not sources:
            raise UserError(f"An image part of the chat holds no picture: give it under one of {', '.join(SOURCES)}.")
        source = sources[0]
    return read_text(source) if isinstance(source, str) else read_picture(source)
