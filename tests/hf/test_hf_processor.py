"""Questions, chats and prompts through the processor."""

import base64
from pathlib import Path

import numpy as np
import pytest
import torch
from hf_samples import QUESTIONS, pictures
from PIL import Image

import deltaprune as dp
from deltaprune.hf import DeltapruneProcessor
from deltaprune.mllm.processor import Processor
from deltaprune.vision.images import open_image


def user(*content: object) -> dict:
    return {"role": "user", "content": [{"type": "text", "text": c} if isinstance(c, str) else c for c in content]}


def image(picture: object) -> dict:
    return {"type": "image", "image": picture}


def same(a: dict, b: dict) -> bool:
    return set(a) == set(b) and all(torch.equal(a[key], b[key]) for key in a)


def test_it_gives_what_ours_gives(processor: DeltapruneProcessor, tiny: tuple[dp.VLM, Processor]) -> None:
    ours = tiny[1](images=pictures(), text=QUESTIONS, image_index=[0, 1, 0])
    assert same(dict(processor(pictures(), QUESTIONS, image_index=[0, 1, 0])), ours)
    assert same(dict(processor(text=QUESTIONS)), tiny[1](text=QUESTIONS))


def test_one_image_for_each_row_needs_no_index(processor: DeltapruneProcessor) -> None:
    flat = dict(processor(pictures(), QUESTIONS[:2]))
    assert "image_index" not in flat
    assert same(dict(processor([[picture] for picture in pictures()], QUESTIONS[:2])), flat)
    assert processor(pictures()[0], QUESTIONS)["image_index"].tolist() == [0, 0, 0]


def test_paths_are_read(processor: DeltapruneProcessor, tmp_path: Path) -> None:
    pictures()[0].save(tmp_path / "a.png")
    assert same(dict(processor(str(tmp_path / "a.png"), "What?")), dict(processor(pictures()[0], "What?")))


def test_a_file_is_read_as_everywhere_in_the_library(processor: DeltapruneProcessor, tmp_path: Path) -> None:
    """transformers' reader would clip 16 bits to white and drop the transparency."""
    Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32) * 64).save(tmp_path / "wide.png")
    Image.new("RGBA", (32, 32), (255, 0, 0, 128)).save(tmp_path / "clear.png")
    for name in ("wide.png", "clear.png"):
        read = dict(processor(str(tmp_path / name), "What?"))
        assert same(read, dict(processor(open_image(tmp_path / name), "What?")))
        chat = [user(image(str(tmp_path / name)), "What?")]
        assert same(dict(processor.apply_chat_template(chat, tokenize=True, return_dict=True)), read)


def test_base64_text_is_read(processor: DeltapruneProcessor, tmp_path: Path) -> None:
    pictures()[0].save(tmp_path / "a.png")
    text = base64.b64encode((tmp_path / "a.png").read_bytes()).decode()
    for written in (text, f"data:image/png;base64,{text}"):
        assert same(dict(processor(written, "What?")), dict(processor(pictures()[0], "What?")))


def test_what_is_no_picture_ends_in_a_sentence(
    processor: DeltapruneProcessor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.png").write_text("no picture at all")
    for source, sentence in (
        (str(tmp_path / "text.png"), "is not an image that can be read here, whatever its name says"),
        (str(tmp_path / "tekst.png"), r"did you mean '.*text\.png'\?"),
        ("x" * 1999, "The text of 1999 letters is no base64 image"),
    ):
        with pytest.raises(dp.UserError, match=sentence):
            processor(source, "What?")

    def fail(*_: object, **__: object) -> Image.Image:
        raise OSError("no network")

    monkeypatch.setattr("deltaprune.hf.pictures.urlopen", fail)
    with pytest.raises(dp.UserError, match=r"'https://example\.org/a\.png' gives no image \(OSError: no network\)"):
        processor("https://example.org/a.png", "What?")


def test_a_chat_is_its_question(processor: DeltapruneProcessor) -> None:
    chat = [user(image(pictures()[0]), "What?")]
    prompt = processor.apply_chat_template(chat, add_generation_prompt=True)
    assert prompt == "<|user|>\nWhat?<|endoftext|>\n<|assistant|>\n"
    asked = dict(processor(pictures()[0], "What?"))
    assert same(dict(processor(pictures()[0], prompt)), asked)
    assert same(dict(processor.apply_chat_template(chat, tokenize=True, return_dict=True)), asked)
    assert torch.equal(processor.apply_chat_template(chat, tokenize=True), asked["input_ids"])


def test_several_chats(processor: DeltapruneProcessor) -> None:
    first, second = pictures()
    chats = [[user(image(first), QUESTIONS[0])], [user(image(second), QUESTIONS[1])]]
    together = processor.apply_chat_template(chats, tokenize=True, return_dict=True)
    assert same(dict(together), dict(processor([first, second], QUESTIONS[:2])))
    assert len(processor.apply_chat_template(chats)) == 2
    text = [[{"role": "user", "content": question}] for question in QUESTIONS]
    assert same(
        dict(processor.apply_chat_template(text, tokenize=True, return_dict=True)), dict(processor(text=QUESTIONS))
    )


def test_turns_and_unfinished_answers(processor: DeltapruneProcessor) -> None:
    chat = [user("Is it red?"), {"role": "assistant", "content": "Yes"}, user("Sure?")]
    first = "<|user|>\nIs it red?<|endoftext|>\n<|assistant|>\nYes<|endoftext|>\n"
    prompt = first + "<|user|>\nSure?<|endoftext|>\n<|assistant|>\n"
    assert processor.apply_chat_template(chat) == prompt
    chat.append({"role": "assistant", "content": [{"type": "text", "text": "I am"}]})
    assert processor.apply_chat_template(chat, continue_final_message=True) == prompt + "I am"
    with pytest.raises(dp.UserError, match="last message is the assistant's"):
        processor.apply_chat_template(chat)


@pytest.mark.parametrize("key", ["image", "url", "path"])
def test_an_image_part_may_hold_a_path(processor: DeltapruneProcessor, tmp_path: Path, key: str) -> None:
    pictures()[0].save(tmp_path / "a.png")
    chat = [user({"type": "image", key: str(tmp_path / "a.png")}, "What?")]
    inputs = processor.apply_chat_template(chat, tokenize=True, return_dict=True)
    assert same(dict(inputs), dict(processor(pictures()[0], "What?")))


def test_an_image_url_part(processor: DeltapruneProcessor, tmp_path: Path) -> None:
    pictures()[0].save(tmp_path / "a.png")
    for url in (str(tmp_path / "a.png"), {"url": str(tmp_path / "a.png")}):
        chat = [user({"type": "image_url", "image_url": url}, "What?")]
        inputs = processor.apply_chat_template(chat, tokenize=True, return_dict=True)
        assert same(dict(inputs), dict(processor(pictures()[0], "What?")))


PICTURE = Image.new("RGB", (8, 8))


@pytest.mark.parametrize(
    ("chat", "sentence"),
    [
        ([[user(image(PICTURE), "a")], [user("b")]], "1 of 2 chats hold an image"),
        ([user({"type": "image"}, "a")], "holds no picture"),
        ([user(image(PICTURE), image(PICTURE), "a")], "images in its messages"),
        ([{"role": "system", "content": "a"}], "no system prompt"),
        ([], "roles are"),
    ],
)
def test_chats_that_cannot_be_are_refused(processor: DeltapruneProcessor, chat: list, sentence: str) -> None:
    with pytest.raises(dp.UserError, match=sentence):
        processor.apply_chat_template(chat, tokenize=True)


def test_arguments_that_mean_nothing_are_refused(processor: DeltapruneProcessor) -> None:
    with pytest.raises(dp.UserError, match="no argument 'max_length'"):
        processor(text="What?", max_length=3)
    with pytest.raises(dp.UserError, match="padding='max_length'"):
        processor(text="What?", padding="max_length")
    with pytest.raises(dp.UserError, match="chat_template cannot be chosen"):
        processor.apply_chat_template([user("What?")], chat_template="{{ messages }}")
    with pytest.raises(dp.UserError, match=r"\[2\] images were given"):
        processor([pictures()], "What?")
    assert same(dict(processor(text="What?", videos=None, padding=True)), dict(processor(text="What?")))
