"""Golden prompts of the published models, chats, and how GPT-NeoX's rules cut a prompt into tokens."""

import inspect
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from neox import neox_part
from PIL import Image
from tokenizers import Tokenizer

from deltaprune.errors import UserError
from deltaprune.mllm.network import MLLMConfig
from deltaprune.mllm.processor import Processor
from deltaprune.mllm.prompts import ask_in, render
from deltaprune.mllm.templates import template_text
from deltaprune.models.cobra import COBRA
from deltaprune.models.robomamba import ROBOMAMBA
from deltaprune.vision.pixels import normalise, resize_crop

QUESTION = "What is this?"
ZEPHYR, ROBOMAMBAS = template_text("zephyr"), template_text("robomamba")
CHAT: list[dict[str, Any]] = [
    {"role": "user", "content": QUESTION},
    {"role": "assistant", "content": "A cup"},
    {"role": "user", "content": "Which colour?"},
]


@pytest.fixture(scope="module")
def neox() -> Tokenizer:
    return neox_part()


def tokens(tokenizer: Tokenizer, config: MLLMConfig, row: Any) -> list[str]:
    inputs = Processor(config, tokenizer)(text=[row])
    assert inputs["attention_mask"].all()
    return [tokenizer.id_to_token(id) for id in inputs["input_ids"][0].tolist()]


def test_golden_prompts() -> None:
    assert ask_in(ZEPHYR, "\nWhat is this? ") == "<|user|>\nWhat is this?<|endoftext|>\n<|assistant|>\n"
    assert ask_in(ZEPHYR, "<image>\nWhat?") == "<|user|>\nWhat?<|endoftext|>\n<|assistant|>\n"
    assert ask_in(ROBOMAMBAS, "What is this?") == "<image>Question:What is this? Answer:"


def test_golden_turns() -> None:
    assert render(CHAT, ZEPHYR) == (
        "<|user|>\nWhat is this?<|endoftext|>\n<|assistant|>\nA cup<|endoftext|>\n"
        "<|user|>\nWhich colour?<|endoftext|>\n<|assistant|>\n"
    )
    unfinished = [*CHAT, {"role": "assistant", "content": "It is"}]
    assert render(unfinished, ZEPHYR, go_on=True) == render(CHAT, ZEPHYR) + "It is"


def test_answers_are_wrapped_as_in_training() -> None:
    """Stripped, without "<image>"; an empty one is a blank."""
    for answer, wrapped in ((" A cup\n", "A cup"), ("<image>A cup", "A cup"), ("", " ")):
        chat = [CHAT[0], {"role": "assistant", "content": answer}, CHAT[2]]
        assert f"<|assistant|>\n{wrapped}<|endoftext|>\n<|user|>" in render(chat, ZEPHYR)


@pytest.mark.parametrize("template", ["zephyr", "robomamba"])
def test_a_question_is_a_chat_of_one_message(template: str, neox: Tokenizer) -> None:
    chat = [{"role": "user", "content": QUESTION}]
    in_parts = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
    expected = ask_in(template_text(template), QUESTION)
    text = template_text(template)
    assert render(chat, text) == render(in_parts, text) == expected
    processor = Processor(replace(COBRA, template=template), neox)
    assert processor.prompt(QUESTION) == processor.prompt(chat) == expected


@pytest.mark.parametrize("config", [COBRA, ROBOMAMBA], ids=lambda config: config.name)
def test_what_begins_like_the_template_is_taken_for_a_prompt(config: MLLMConfig, neox: Tokenizer) -> None:
    processor = Processor(config, neox)
    prompt = processor.prompt(QUESTION)
    assert processor.prompt(prompt) == prompt
    assert processor.prompt(prompt.partition(QUESTION)[0] + "?") == prompt.partition(QUESTION)[0] + "?"
    assert processor.prompt(f"Say {prompt}") != f"Say {prompt}"


def test_text_parts_stand_one_below_the_other() -> None:
    content = [{"type": "text", "text": "Look."}, {"type": "image"}, {"type": "text", "text": "What?"}]
    assert render([{"role": "user", "content": content}], ZEPHYR) == ask_in(ZEPHYR, "Look.\nWhat?")


def test_rows_may_be_questions_or_chats(neox: Tokenizer) -> None:
    processor = Processor(COBRA, neox)
    inputs = processor(images=Image.new("RGB", (4, 4)), text=[QUESTION, CHAT])
    assert inputs["image_index"].tolist() == [0, 0]
    rows = [ids[mask.bool()] for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)]
    assert torch.equal(rows[0], processor(text=QUESTION)["input_ids"][0])
    assert torch.equal(rows[1], processor(text=CHAT)["input_ids"][0])
    assert torch.equal(rows[1], torch.tensor(neox.encode(render(CHAT, ZEPHYR)).ids))


def test_cobras_prompt_in_tokens(neox: Tokenizer) -> None:
    """`<|user|>` is not special there, `<|endoftext|>` is one id, and nothing is put in front."""
    question = ["What", "Ġis", "Ġthis", "?"]
    user, assistant = ["<", "|", "user", "|>", "Ċ"], ["<", "|", "ass", "istant", "|>", "Ċ"]
    found = tokens(neox, COBRA, QUESTION)
    assert found == [*user, *question, "<|endoftext|>", "Ċ", *assistant]
    assert len(found) - len(question) == 13  # the bare template's tokens in the published tokenizer
    assert neox.token_to_id("<|endoftext|>") == 0
    turns = tokens(neox, COBRA, CHAT)
    assert turns.count("<|endoftext|>") == 3
    assert turns[: len(found)] == found


def test_robomambas_prompt_in_tokens(neox: Tokenizer) -> None:
    """`<image>` is plain text of three tokens, and no end-of-text stands in the prompt."""
    found = tokens(neox, ROBOMAMBA, QUESTION)
    assert found == ["<", "image", ">", "Question", ":", "What", "Ġis", "Ġthis", "?", "ĠAnswer", ":"]


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def answer(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


IMAGE, WHAT = {"type": "image"}, {"type": "text", "text": "What?"}


@pytest.mark.parametrize(
    ("chat", "said"),
    [
        ([answer("A cup")], "'user' first"),
        ([user("a"), user("b")], "in turn"),
        ([{"role": "system", "content": "Be brief."}, user("a")], "no system prompt"),
        ([{"content": "a"}], r"roles are \[None\]"),
        ([user("a"), answer("b")], "last message is the assistant's: it must be the user's"),
        ([user("a"), answer("b"), user(" ")], "is empty"),
        ([user([IMAGE])], "is empty"),
        ([{"role": "user"}], "no content: it must be like {'role': 'user'"),
        ([user(7)], "no content"),
        ([user(["What?"])], "part of type 'str'"),
        ([user([{"type": "audio", "audio": 1}])], "part of type 'audio'"),
        ([user([{"type": "text"}])], "part of type 'text' that cannot be read"),
        ([user([IMAGE, IMAGE, WHAT])], "in its messages 1, 1: there can be one"),
        ([user("a"), answer("b"), user([IMAGE, WHAT])], "in its messages 3: there can be one, in the first"),
    ],
)
def test_chats_that_do_not_fit(chat: list[Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        render(chat, ZEPHYR)
    assert str(error.value).endswith(".")


def test_going_on_needs_an_unfinished_answer() -> None:
    with pytest.raises(UserError, match="last message is the user's: it must be the assistant's unfinished one"):
        render(CHAT, ZEPHYR, go_on=True)


def test_robomamba_has_a_single_turn(neox: Tokenizer) -> None:
    with pytest.raises(UserError, match="'robomamba' template has a single turn: give one message of the user, not 3"):
        Processor(ROBOMAMBA, neox)(text=[CHAT])


def test_pictures_are_not_read_from_a_chat(neox: Tokenizer) -> None:
    chat = [user([{"type": "image", "image": Image.new("RGB", (4, 4))}, WHAT])]
    with pytest.raises(UserError, match="pass it as images="):
        Processor(COBRA, neox)(text=[chat])


@pytest.mark.parametrize("row", [7, None, [], ["What?"], {"role": "user"}])
def test_a_row_is_a_question_or_a_chat(row: Any, neox: Tokenizer) -> None:
    unchecked = inspect.unwrap(Processor.__call__)  # by a user who checks no types
    for text in (["What?", row], row):
        if text not in ([], ["What?"]):
            with pytest.raises(UserError, match=re.escape(f"a chat (a list of messages), not {row!r}.")):
                unchecked(Processor(COBRA, neox), text=text)


def test_robomamba_sees_the_square_in_the_middle(neox: Tokenizer) -> None:
    image = Image.effect_noise((90, 60), 80).convert("RGB")
    pixels = Processor(ROBOMAMBA, neox)(images=image, text=QUESTION)["pixel_values_clip"]
    clip = ROBOMAMBA.towers["clip"]
    assert torch.equal(pixels[0], normalise(resize_crop(image, 224), clip))


def test_a_config_from_before_the_crop_stretches() -> None:
    raw = ROBOMAMBA.to_dict()
    assert MLLMConfig.from_dict(raw) == ROBOMAMBA
    del raw["towers"]["clip"]["resize"]
    assert MLLMConfig.from_dict(raw).towers["clip"].resize == "naive"
