"""`images=` takes paths, PIL pictures, arrays and tensors; every door reads them alike."""

import base64
import inspect
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

import deltaprune as dp
from deltaprune.ask import ask
from deltaprune.benchmarks._hub import HubPicture
from deltaprune.benchmarks._images import open_picture
from deltaprune.errors import UserError
from deltaprune.lmms_eval.questions import read_messages
from deltaprune.mllm.pictures import read_picture, read_pictures
from deltaprune.mllm.processor import Processor
from deltaprune.vision.images import open_image

NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)


def turned() -> Image.Image:
    image = Image.fromarray(NOISE[..., :3])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image.info["exif"] = exif.tobytes()
    return image


def sixteen() -> Image.Image:
    return Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257)


AWKWARD: dict[str, Callable[[], Image.Image]] = {
    "turned": turned,
    "transparent": lambda: Image.fromarray(NOISE),
    "sixteen bits": sixteen,
    "int32": lambda: Image.fromarray(NOISE[..., 0].astype(np.int32)),
    "float": lambda: Image.fromarray(NOISE[..., 0] / np.float32(255)),
    "plain": lambda: Image.fromarray(NOISE[..., :3]),
}
EXPECTED: dict[str, Any] = {
    "turned": np.rot90(NOISE[..., :3], -1),
    "transparent": np.rint(255 + (NOISE[..., :3].astype(float) - 255) * NOISE[..., 3:] / 255),
    **dict.fromkeys(["sixteen bits", "int32", "float"], np.repeat(NOISE[..., :1], 3, -1)),
    "plain": NOISE[..., :3],
}


def saved(name: str, folder: Path) -> Path:
    image = AWKWARD[name]()
    file = folder / ("x.tiff" if name in ("int32", "float") else "x.png")
    image.save(file, **({"exif": image.info["exif"]} if "exif" in image.info else {}))
    return file


def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", AWKWARD)
def test_every_door_reads_a_picture_alike(
    name: str, tiny: tuple[dp.VLM, Processor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vlm, processor = tiny
    file = saved(name, tmp_path)
    expected = Image.fromarray(EXPECTED[name].astype(np.uint8))
    read = np.asarray(open_image(file)).astype(int)
    assert np.abs(read - np.asarray(expected)).max() <= (1 if name == "transparent" else 0)
    pixels = processor.encode_images([open_image(file)])
    chat = [{"role": "user", "content": [{"type": "image", "url": str(file)}, {"type": "text", "text": "What?"}]}]
    doors = {
        "a path": processor.encode_images(str(file)),
        "a Path": processor.encode_images(file),
        "PIL, in memory": processor.encode_images(AWKWARD[name]()),
        "PIL, from the file": processor.encode_images([Image.open(file)]),
        "evaluate, files": processor.encode_images([open_picture(file)]),
        "evaluate, hub": processor.encode_images([HubPicture([{"image": Image.open(file)}], 0, "hub")()]),
        "lmms-eval": processor.encode_images([read_messages(chat, processor)[1]]),
    }
    for door, seen in doors.items():
        assert same(seen, pixels), door
    prefix = vlm.encode_image(open_image(file))
    for given in (file, Image.open(file), AWKWARD[name]()):
        assert torch.equal(vlm.encode_image(given).prefilled.hidden, prefix.prefilled.hidden)
    answers = {ask(vlm, processor, given, ["What?"], "none", 4)[0].answer for given in (file, open_image(file))}
    assert len(answers) == 1


@pytest.mark.parametrize("name", AWKWARD)
def test_the_hugging_face_door_reads_it_alike(
    name: str, tiny: tuple[dp.VLM, Processor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import PreTrainedTokenizerFast

    from deltaprune.hf import DeltapruneConfig, DeltapruneProcessor

    vlm, ours = tiny
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=ours.tokenizer, eos_token="<|endoftext|>")
    processor = DeltapruneProcessor(tokenizer, DeltapruneConfig.of(vlm.config, ours.eos_id))
    file = saved(name, tmp_path)
    text = base64.b64encode(file.read_bytes()).decode()
    monkeypatch.setattr("deltaprune.hf.pictures.urlopen", lambda *_, **__: io.BytesIO(file.read_bytes()))
    expected = dict(processor(open_image(file), "What?"))
    for given in (str(file), file, Image.open(file), AWKWARD[name](), text, f"data:image/png;base64,{text}"):
        assert same(dict(processor(given, "What?")), expected)
        assert same(dict(processor([given], ["What?"])), expected)
        part = {"type": "image", "image": given}
        chat = [{"role": "user", "content": [part, {"type": "text", "text": "What?"}]}]
        assert same(dict(processor.apply_chat_template(chat, tokenize=True, return_dict=True)), expected)
    assert same(dict(processor("https://example.org/x.png", "What?")), expected)


def test_arrays_and_tensors(tiny: tuple[dp.VLM, Processor]) -> None:
    colours = NOISE[..., :3]
    expected = read_picture(Image.fromarray(colours))
    tensor = torch.from_numpy(colours.copy())
    for given in (
        colours,
        np.moveaxis(colours, -1, 0),
        colours / 255,
        tensor,
        tensor.permute(2, 0, 1),
        tensor.permute(2, 0, 1).float() / 255,
        tensor.double().requires_grad_(),
        tensor.bfloat16(),
    ):
        assert np.array_equal(np.asarray(read_picture(given)), np.asarray(expected))
        assert same(tiny[1](images=given, text="What?"), tiny[1](images=expected, text="What?"))


def test_several_pictures_of_mixed_kinds(tmp_path: Path, tiny: tuple[dp.VLM, Processor]) -> None:
    colours = NOISE[..., :3]
    Image.fromarray(colours).save(tmp_path / "x.png")
    kinds = [str(tmp_path / "x.png"), tmp_path / "x.png", Image.fromarray(colours), colours, torch.from_numpy(colours)]
    for given in (kinds, tuple(kinds), iter(kinds), np.stack([colours] * 5), torch.from_numpy(np.stack([colours] * 5))):
        assert {image.tobytes() for image in read_pictures(given)} == {colours.tobytes()}
    assert tiny[1](images=kinds, text=["What?"] * 5)["image_index"].tolist() == [0, 1, 2, 3, 4]


def test_a_name_is_one_picture_however_long_it_is(tiny: tuple[dp.VLM, Processor]) -> None:
    with pytest.raises(UserError, match=r"There is no image 'examples_triangles.png'"):
        tiny[1](images="examples_triangles.png", text="What?")


def test_which_of_several_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Image 2 has no pixels"):
        read_pictures([Image.new("RGB", (2, 2)), Image.new("RGB", (0, 2))])
    with pytest.raises(UserError, match=r"row 3 of 'hub' cannot be read: The image has no pixels \(0 x 2\)"):
        HubPicture([{"image": Image.new("RGB", (0, 2))}] * 4, 3, "hub")()


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (7, "An int is not an image: give a path"),
        (b"\x89PNG", "A bytes is not an image"),
        (io.BytesIO(), "A BytesIO is not an image"),
        ({"image": 1}, "A dict is not an image"),
        ([None], r"None is not an image \(number 1 of images=\)"),
        ([Image.new("RGB", (2, 2)), 3.5], r"A float is not an image \(number 2 of images=\)"),
        ([[Image.new("RGB", (2, 2))]], r"A list is not an image \(number 1"),
        ([], "images= is an empty list"),
        (np.zeros((5, 5, 5)), r"array of shape \(5, 5, 5\)"),
        (torch.randn(3, 4, 4) * 3, "colours reach from"),
    ],
)
def test_anything_else_is_named(images: object, sentence: str, tiny: tuple[dp.VLM, Processor]) -> None:
    vlm, processor = tiny
    unchecked = inspect.unwrap(Processor.__call__)  # by a user who checks no types
    with pytest.raises(UserError, match=sentence) as error:
        unchecked(processor, images=images, text="What?")
    assert str(error.value).endswith(".")
    if not isinstance(images, Mapping):  # what the processor gave
        with pytest.raises(UserError, match=sentence):
            inspect.unwrap(dp.VLM.encode_image)(vlm, images)
