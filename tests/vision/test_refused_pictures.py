"""Whatever PIL's readers raise ends in one sentence: their exceptions are gathered from PIL's own code, not listed."""

import ast
import builtins
import inspect
import io
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import PIL
import pytest
from PIL import Image, ImageFile
from png_files import chunk

from deltaprune.benchmarks._images import open_picture
from deltaprune.errors import UserError
from deltaprune.vision.images import decode_image, open_image, to_rgb

Image.init()  # every plug-in


def modules() -> list[ModuleType]:
    """PIL's core and its readers."""
    readers = sorted(name for name in sys.modules if name.startswith("PIL.") and name.endswith("Plugin"))
    return [PIL, Image, ImageFile, *(sys.modules[name] for name in readers)]


def named(module: ModuleType) -> set[type]:
    """The classes that names and dotted names in a module's code stand for."""
    known = {**vars(builtins), **vars(module)}
    found: list[object] = []
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Name):
            found.append(known.get(node.id))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.append(getattr(known.get(node.value.id), node.attr, None))
    return {each for each in found if inspect.isclass(each)}


def exceptions() -> list[type[Exception]]:
    """Every class of exception that PIL's readers raise, catch or define."""
    classes = {each for module in modules() for each in named(module)}
    errors = [each for each in classes if issubclass(each, Exception) and not issubclass(each, Warning)]
    return sorted(errors, key=lambda each: each.__name__)


def instance(kind: type[Exception]) -> Exception:
    if issubclass(kind, UnicodeDecodeError):
        return kind("utf-8", b"x", 0, 1, "two\nlines.")
    if issubclass(kind, subprocess.CalledProcessError):
        return kind(1, "two\nlines.")
    return kind("two\nlines.")


def is_sentence(error: UserError) -> bool:
    text = str(error)
    return "\n" not in text and text[-1] in ".?" and text[0] in "'TA"


class Reader(ImageFile.ImageFile):
    """A plug-in that raises at opening or at loading."""

    format = "ODD"
    at = "open"
    error: Exception = ValueError()

    def _open(self) -> None:
        self._size, self._mode = (2, 2), "RGB"
        if self.at == "open":
            raise self.error

    def load(self):  # type: ignore[no-untyped-def]
        raise self.error


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that only the odd plug-in accepts."""
    monkeypatch.setattr(Image, "ID", ["ODD", *Image.ID])
    monkeypatch.setitem(Image.OPEN, "ODD", (Reader, lambda prefix: prefix.startswith(b"odd")))
    (tmp_path / "x.odd").write_bytes(b"odd" * 100)
    return tmp_path / "x.odd"


def test_the_walk_finds_what_readers_raise() -> None:
    found = {each.__name__ for each in exceptions()}
    known = {"NotImplementedError", "DecompressionBombError", "UnidentifiedImageError", "BLPFormatError", "OSError"}
    assert known <= found
    assert len(found) > 15


@pytest.mark.parametrize("kind", exceptions(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("at", ["open", "load"])
def test_every_exception_of_a_reader_is_a_sentence(
    kind: type[Exception], at: str, odd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reader, "at", at)
    monkeypatch.setattr(Reader, "error", instance(kind))
    for read in (open_image, open_picture, lambda path: decode_image(path.read_bytes(), "The picture")):
        with pytest.raises(UserError) as caught:
            read(odd)
        assert is_sentence(caught.value), str(caught.value)
    if at == "load":
        with Image.open(odd) as image, pytest.raises(UserError) as caught:
            to_rgb(image)
        assert is_sentence(caught.value), str(caught.value)


def readable() -> list[bytes]:
    """A small file of every format that PIL can write."""
    files = []
    for form in sorted(Image.SAVE):
        for mode in ("RGB", "L", "1"):
            content = io.BytesIO()
            try:
                Image.new(mode, (16, 16)).save(content, form)
            except Exception:  # a format that takes no such mode, or none of PIL's making
                continue
            files.append(content.getvalue())
            break
    return files


@pytest.mark.parametrize("form", sorted(Image.OPEN))
def test_every_reader_on_damaged_files(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each plug-in alone gets noise and broken files of all formats, whatever their first bytes say."""
    factory, _ = Image.OPEN[form]
    monkeypatch.setattr(Image, "ID", [form])
    monkeypatch.setitem(Image.OPEN, form, (factory, lambda prefix: True))
    rng = random.Random(form)
    contents = [bytes(100), b"\xff" * 100, *(rng.randbytes(n) for n in (1, 10, 100, 2000, 2000, 2000))]
    for whole in readable():
        cut = bytearray(whole[: rng.randint(1, len(whole))])
        noisy = bytearray(whole)
        for _ in range(4):
            noisy[rng.randrange(len(noisy))] = rng.randrange(256)
        contents += [whole, bytes(cut), bytes(noisy)]
    for content in contents:
        with suppress(UserError):  # how it reads is tested above; nothing else may come out
            assert decode_image(content, "The picture").mode == "RGB"


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + kind + body


def icns(body: bytes) -> bytes:
    return b"icns" + struct.pack(">I", len(body) + 16) + b"ic10" + struct.pack(">I", len(body) + 8) + body


def bomb() -> bytes:
    """A PNG file that says it is 60,000 pixels wide and high, and holds none."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    end = chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + end


def dds() -> bytes:
    """A surface of a format that PIL does not know."""
    pixel = struct.pack("<II4sIIIII", 32, 4, b"XYZW", 0, 0, 0, 0, 0)
    return b"DDS " + struct.pack("<IIIIIII44x", 124, 0, 4, 4, 0, 0, 0) + pixel + bytes(200)


def written(form: str) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (4, 4)).save(content, form)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (box(b"ftyp", b"heic\0\0\0\0mif1heic"), "format HEIF, which is not supported here: convert the picture to PNG"),
        (box(b"ftyp", b"mif1\0\0\0\0mif1heic"), "format HEIF, which is not supported"),
        (written("EPS"), "format EPS, which is not supported"),
        (b"%!PS-Adobe-3.0\n", "format EPS, which is not supported"),
        (
            b"\xd7\xcd\xc6\x9a\0\0"
            + struct.pack("<hhhhH", 0, 0, 9, 9, 72)
            + bytes(4)
            + b"\x01\0\t\0\0\x03"
            + bytes(40),
            "WMF, which",
        ),
        (b"\x01\0\0\0" + struct.pack("<I4i4i", 108, 0, 0, 9, 9, 0, 0, 99, 99) + b" EMF" + bytes(80), "MF, which"),
        (b"\xff\x0a" + bytes(40), "format JPEG XL, which"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "format SVG, which"),
        (b"%PDF-1.7\n", "format PDF, which"),
        (b"v/1\x01" + bytes(40), "format OpenEXR, which"),
        (b"GRIB" + bytes(3) + b"\x01" + bytes(40), "format GRIB, which"),
        (b"\0\0\1\xb3\1\0\x10" + bytes(40), "MPEG, which"),
        (dds(), "of a kind that is not supported here"),
        (icns(bomb()), "has 3600 megapixels"),
    ],
    ids=["heic", "mif1", "eps", "eps head", "wmf", "emf", "jxl", "svg", "pdf", "exr", "grib", "mpeg", "dds", "icns"],
)
def test_formats_that_are_not_supported(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    reads: list[Callable[[Path], Image.Image]] = [open_image, open_picture]
    for read in reads:
        with pytest.raises(UserError) as caught:
            read(tmp_path / "x")
        assert said in str(caught.value)
        assert is_sentence(caught.value)
    try:
        given = Image.open(tmp_path / "x")
    except Exception:  # PIL itself does not open it
        return
    with given, pytest.raises(UserError) as caught:
        to_rgb(given)
    assert said in str(caught.value)


def test_what_does_not_fit_into_memory(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reader, "error", MemoryError())
    with pytest.raises(UserError, match="does not fit into this machine's memory"):
        open_image(odd)
