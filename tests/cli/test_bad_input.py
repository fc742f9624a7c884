"""Damaged checkpoints, odd pictures, odd questions: each ends in an answer or in exit code 2 and one sentence."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import Published, cut_off, edit, write_cobra
from PIL import Image

from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM

MIXER = "llm.backbone.layers.1.mixer."
RUN = Path("checkpoints") / "latest-checkpoint.pt"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(monkeypatch)


@pytest.fixture(scope="module")
def cobra(tiny: tuple[VLM, Processor], tmp_path_factory: pytest.TempPathFactory) -> Published:
    return write_cobra(tmp_path_factory.mktemp("cobra"), tiny[1].tokenizer)


def refused(ran: Any, sentence: str) -> None:
    assert (ran.code, ran.out) == (2, "")
    assert sentence in ran.err
    assert ran.err.count("\n") == 1
    assert ran.err.endswith(".\n") or ran.err.endswith("?\n") or ran.err.endswith(")\n")


class Trap:
    """A pickle that would make a directory."""

    def __init__(self, folder: Path):
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (self.folder,)


def code(held: dict[str, Any], folder: Path) -> None:
    held["extra"] = Trap(folder / "trap")


def wrong_shape(held: dict[str, Any], folder: Path) -> None:
    held["model"]["llm_backbone"][MIXER + "D"] = torch.ones(65)


def nan(held: dict[str, Any], folder: Path) -> None:
    held["model"]["llm_backbone"][MIXER + "D"][3] = torch.nan


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (code, "holds more than tensors (posix.mkdir), and code in a pickle is never run"),
        (wrong_shape, f"does not fit its config: misshapen {MIXER}D (65,) instead of (64,)"),
        (nan, "holds NaN or infinity in lm.backbone.layers.1.mixer.D: it is damaged"),
        (None, "latest-checkpoint.pt is cut short: download or copy it again"),
    ],
    ids=["code", "wrong shape", "nan", "truncated"],
)
def test_a_spoiled_checkpoint(
    spoil: Any, sentence: str, cli: Callable[..., Any], cobra: Published, scene: Path, tmp_path: Path
) -> None:
    source = edit(cobra, tmp_path, lambda held: spoil(held, tmp_path) if spoil else None)
    if spoil is None:
        os.truncate(source / RUN, (source / RUN).stat().st_size // 2)
    parts = ("--towers", cobra.towers, "--tokenizer", cobra.tokenizer)
    refused(cli("ask", scene, "What?", "--model", source, *parts), sentence)
    assert not (tmp_path / "trap").exists()


def header(width: int, height: int) -> bytes:
    """A PNG of this size with a single byte of pixels: who refuses its size has read the header alone."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    size = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + size + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def noise(width: int = 40, height: int = 30) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def truncated(path: Path) -> None:
    noise().save(path, "JPEG")
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("name", "make", "sentence"),
    [
        (
            "text.png",
            lambda path: path.write_text("no picture at all"),
            "text.png' is not an image that can be read here",
        ),
        ("cut.jpg", truncated, "cut.jpg' is damaged or cut short"),
        ("empty.png", lambda path: path.write_bytes(header(0, 7)), "has no pixels (0 x 7): an image is at least 1 x 1"),
        ("huge.png", lambda path: path.write_bytes(header(30_000, 30_000)), "has 900 megapixels"),
    ],
    ids=["text", "truncated", "no pixels", "30,000 x 30,000"],
)
def test_a_picture_that_cannot_be_read(
    name: str, make: Callable[[Path], object], sentence: str, cli: Callable[..., Any], model: Path, tmp_path: Path
) -> None:
    make(tmp_path / name)
    refused(cli("ask", tmp_path / name, "What?", "--model", model), sentence)


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    noise().save(path, exif=exif)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("rgba.png", lambda path: noise().convert("RGBA").save(path)),
        ("cmyk.jpg", lambda path: noise().convert("CMYK").save(path)),
        ("wide.png", lambda path: Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50).save(path)),
        ("moving.gif", lambda path: noise().save(path, save_all=True, append_images=[noise().rotate(90)])),
        ("turned.jpg", turned),
    ],
    ids=["RGBA", "CMYK", "16-bit", "animated", "EXIF-rotated"],
)
def test_a_picture_of_another_kind_works(
    name: str, make: Callable[[Path], object], cli: Callable[..., Any], model: Path, tmp_path: Path
) -> None:
    make(tmp_path / name)
    rows = cli("ask", tmp_path / name, "What?", "--model", model, "--json").rows
    assert [row["kept"] for row in rows] == [None, [8, 0], None]


def test_an_empty_question(cli: Callable[..., Any], model: Path, scene: Path) -> None:
    refused(cli("ask", scene, "What?", "", "--model", model), "Question 2 is empty: ask something, such as")


def test_a_question_of_ten_thousand_words_works(cli: Callable[..., Any], model: Path, scene: Path) -> None:
    """A recurrence has no longest prompt."""
    question = "red circle " * 5_000
    rows = cli("ask", scene, question, "--model", model, "--max-new-tokens", 1, "--json").rows
    assert all(row["text_tokens"] > 10_000 and row["new_tokens"] == 1 for row in rows)
    assert [row["kept"] for row in rows] == [None, [8, 0], None]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("cobar", "There is no model 'cobar': it is neither a folder nor a known name; did you mean 'cobra'?"),
        ("cobra", "Cobra could not be downloaded (han1997/cobra: no network): download https://huggingface.co/"),
        ("han1997/cobra", "Cobra could not be downloaded (han1997/cobra: no network)"),
        ("someone/something", "and the Hub did not give it (someone/something: no network)"),
    ],
)
def test_an_unknown_model_and_no_network(name: str, sentence: str, cli: Callable[..., Any], scene: Path) -> None:
    refused(cli("ask", scene, "What?", "--model", name), sentence)
