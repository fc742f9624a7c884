"""The messages about pictures that cannot be read, one sentence each."""

import re
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from PIL import Image, ImageFile, UnidentifiedImageError

from deltaprune.errors import UserError

MAX_MEGAPIXELS = 100  # larger files are attacks or mistakes: the towers see at most 384 x 384
READ = "PNG, JPEG, WebP, GIF, TIFF, BMP"
KNOWN_BY_NAME = ("EPS", "WMF", "EMF", "MPEG")  # PIL recognises these, but needs other programs to read them
_CONVERT = "convert the picture to PNG or JPEG first"
_NOT_BUILT_IN = re.compile(r"(?i)unsupported|not supported|unimplemented|not available|cannot find loader")
_SIGNATURES = {b"\x89PNG": "PNG", b"\xff\xd8": "JPEG", b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
_SIZES = {"PNG": (">II", 16), "GIF": ("<HH", 6), "BMP": ("<ii", 18)}  # where width and height are in the header
_UNREAD = {  # formats that PIL does not read, by their first bytes
    "HEIF": rb"....ftyp(hei|hev|mif|msf)",
    "AVIF": rb"....ftypavi",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "SVG": rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE\s+)?<?svg",
    "PDF": rb"%PDF",
    "EPS": rb"%!PS|\xc5\xd0\xd3\xc6",
    "WMF": rb"\xd7\xcd\xc6\x9a|\x01\0\x09\0\0\x03",
    "EMF": rb"\x01\0\0\0.{36} EMF",
    "OpenEXR": rb"v/1\x01",
    "Radiance HDR": rb"#\?R(ADIANC|GB)E",
    "DjVu": rb"AT&TFORM",
}


@contextmanager
def reading(name: str, head: Callable[[], bytes] | None = None) -> Iterator[None]:
    """Turn whatever PIL raises while it reads a picture into one sentence, and ignore its warnings.

    PIL's readers and plug-ins raise many types of errors. Nothing else runs here, so any error means that the picture
    cannot be read.

    Args:
        name: the picture, as the sentence calls it.
        head: gives the first bytes of its file, if there is one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"{name} cannot be read: you lack the permission (see its mode with ls -l).") from error
    except UnidentifiedImageError as error:
        raise UserError(_unidentified(name, head)) from error
    except Image.DecompressionBombError as error:
        found = re.search(r"\((\d+) pixels\)", str(error))
        pixels = int(found[1]) if found else 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UserError(_too_large(name, pixels)) from error
    except MemoryError as error:
        raise UserError(f"{name} does not fit into this machine's memory: scale it down first.") from error
    except Exception as error:
        if isinstance(error, NotImplementedError | ImportError) or _NOT_BUILT_IN.search(str(error)):
            kind = f"{name} is of a kind that is not supported here ({reason(error)})"
            raise UserError(f"{kind}: {_CONVERT}.") from error
        again = "save or download it again" if head else "its file is damaged or closed"
        raise UserError(f"{name} is damaged or cut short ({reason(error)}): {again}.") from error


def check_readable(image: Image.Image, name: str) -> None:
    """Check that a picture's header has a sensible number of pixels and that PIL itself can decode its format.

    Raises:
        UserError: it fails either check.
    """
    if isinstance(image, ImageFile.StubImageFile) or image.format in KNOWN_BY_NAME:
        raise UserError(f"{name} is of the format {image.format}, which is not supported here: {_CONVERT}.")
    width, height = image.size
    if width * height == 0:
        raise UserError(f"{name} has no pixels ({width} x {height}): an image is at least 1 x 1.")
    if width * height > MAX_MEGAPIXELS * 1_000_000:
        raise UserError(_too_large(name, width * height, f" ({width} x {height})"))


def reason(error: BaseException) -> str:
    """An error's own words on one line, without a period."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(words.split()).rstrip(".") or type(error).__name__


def _too_large(what: str, pixels: int, size: str = "") -> str:
    megapixels = pixels / 1_000_000
    shown = f"{megapixels:.0f}" if megapixels >= MAX_MEGAPIXELS + 0.5 else f"{megapixels:.6g}"
    return f"{what} has {shown} megapixels{size}: the limit is {MAX_MEGAPIXELS}, so scale it down first."


def _unidentified(name: str, head: Callable[[], bytes] | None) -> str:
    """The message about a file that PIL does not know: a broken header, another format, or no image at all."""
    begin = b"" if head is None else head()
    for kind, begins in _UNREAD.items():
        if re.match(begins, begin, re.DOTALL):
            return f"{name} is of the format {kind}, which is not supported here: {_CONVERT}."
    kind = next((kind for start, kind in _SIGNATURES.items() if begin.startswith(start)), None)
    if kind is None:
        return (
            f"{name} is not an image that can be read here, whatever its name says: its content must be {READ} or "
            "another format that PIL reads."
        )
    if kind in _SIZES:
        form, at = _SIZES[kind]
        if len(begin) >= at + struct.calcsize(form):
            width, height = struct.unpack_from(form, begin, at)
            if width == 0 or height == 0:
                return f"{name} has no pixels ({width} x {height}): an image is at least 1 x 1."
    return f"{name} begins like a {kind} file but its header is damaged or cut short: save or download it again."
