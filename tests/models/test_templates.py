"""Chat templates as Jinja: what the originals' code makes of a chat, here, in transformers, and in a model folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

import deltaprune as dp
from deltaprune.checkpoints.convert import convert
from deltaprune.checkpoints.folder import save_folder
from deltaprune.errors import UserError
from deltaprune.mllm.processor import Processor
from deltaprune.mllm.prompts import ask_in, opening, render
from deltaprune.mllm.templates import FILE, fill, template_text

NAMES = ("zephyr", "robomamba")


def zephyr(turns: list[str]) -> str:
    """Cobra's prompt builder: user, assistant, user, ...; each stripped, without "<image>", an empty answer a blank."""
    prompt = ""
    for number, turn in enumerate(turns):
        bare = turn.replace("<image>", "").strip()
        prompt += f"{bare or ' '}<|endoftext|>\n" if number % 2 else f"<|user|>\n{bare}<|endoftext|>\n<|assistant|>\n"
    return prompt


def robomamba(turns: list[str]) -> str:
    (question,) = turns
    return f"<image>Question:{question} Answer:"


EXPECTED = {"zephyr": zephyr, "robomamba": robomamba}
texts = st.lists(
    st.sampled_from(["What", "is", "it", " ", "\n", "<image>", "{{ x }}", "{% if %}", "{#", "<|user|>", "é", "'", "\t"])
).map("".join)


def chat(turns: list[str], parts: bool) -> list[dict[str, Any]]:
    def content(turn: str, first: bool) -> Any:
        image = [{"type": "image"}] if first else []
        return [*image, {"type": "text", "text": turn}] if parts else turn

    return [{"role": ("user", "assistant")[i % 2], "content": content(turn, i == 0)} for i, turn in enumerate(turns)]


@pytest.fixture(scope="module")
def tokenizer(tiny: tuple[dp.VLM, Processor]) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tiny[1].tokenizer)


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None)
@given(turns=st.lists(texts, min_size=1, max_size=5), parts=st.booleans(), unfinished=texts)
def test_the_originals_string(
    name: str, tokenizer: PreTrainedTokenizerFast, turns: list[str], parts: bool, unfinished: str
) -> None:
    """Here and by transformers, from texts and from parts; the answer of a chat may be gone on with."""
    turns = turns[:1] if name == "robomamba" else turns[: len(turns) - (len(turns) + 1) % 2]
    turns = [turn if turn.strip() else f"Why?{turn}" for turn in turns]
    template, expected = template_text(name), EXPECTED[name](turns)
    assert render(chat(turns, parts), template) == expected
    kwargs: dict[str, Any] = {"chat_template": template, "tokenize": False}
    assert tokenizer.apply_chat_template(chat(turns, parts), add_generation_prompt=True, **kwargs) == expected
    assert render(chat([*turns, unfinished], parts), template, go_on=True) == expected + unfinished
    if len(turns) == 1:
        assert ask_in(template, turns[0]) == expected
        assert expected.startswith(opening(template))


@pytest.mark.parametrize("name", NAMES)
def test_transformers_goes_on_with_an_answer_as_we_do(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    asked = [{"role": "user", "content": "Is it red?"}, {"role": "assistant", "content": "It is"}]
    template = template_text(name)
    theirs = tokenizer.apply_chat_template(asked, chat_template=template, tokenize=False, continue_final_message=True)
    assert theirs == render(asked, template, go_on=True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("roles", [["system", "user"], ["assistant"], ["user", "user"]])
def test_a_template_refuses_what_it_cannot_hold(name: str, roles: list[str]) -> None:
    """By itself, for those who render it without this library."""
    with pytest.raises(UserError, match=r"in turn|single turn"):
        fill(template_text(name), [{"role": role, "content": "a"} for role in roles])


def test_a_template_runs_in_a_sandbox() -> None:
    for text in ("{{ ''.__class__.__mro__[1] }}", "{{ messages.append(1) }}", "{{ nothing.at.all }}"):
        with pytest.raises(UserError, match=r"cannot be filled in \((Security|Undefined)Error"):
            fill(text, [{"role": "user", "content": "a"}])
    with pytest.raises(UserError, match=r"cannot be filled in .*TemplateSyntaxError"):
        fill("{% for %}", [])
    with pytest.raises(UserError, match="no chat template 'zefyr': did you mean 'zephyr'"):
        template_text("zefyr")


def test_a_folder_holds_it_and_both_doors_read_it(tiny: tuple[dp.VLM, Processor], tmp_path: Path) -> None:
    from deltaprune.hf import DeltapruneProcessor

    save_folder(tmp_path / "a", tiny[0].model, tiny[1].tokenizer)
    assert (tmp_path / "a" / FILE).read_text() == template_text("zephyr") == tiny[1].chat_template
    other = template_text("zephyr").replace('"<|" + message.role', '"<|!" + message.role')
    (tmp_path / "a" / FILE).write_text(other)
    convert(tmp_path / "a", tmp_path / "b")
    theirs = DeltapruneProcessor.from_pretrained(tmp_path / "b")
    theirs.save_pretrained(tmp_path / "c")
    save_folder(tmp_path / "c", tiny[0].model, tiny[1].tokenizer)  # the weights; it writes the usual template
    shutil.copy(tmp_path / "b" / FILE, tmp_path / "c" / FILE)
    prompt = "<|!user|>\nWhat?<|endoftext|>\n<|assistant|>\n"
    for folder in ("b", "c"):
        _, ours = dp.load(tmp_path / folder)
        theirs = DeltapruneProcessor.from_pretrained(tmp_path / folder)
        assert ours.chat_template == theirs.chat_template == other
        asked = [{"role": "user", "content": "What?"}]
        assert ours.prompt("What?") == theirs.apply_chat_template(asked) == prompt
        assert torch.equal(ours(text="What?")["input_ids"], theirs(text="What?")["input_ids"])
        plain = theirs.tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        assert plain == prompt


def test_a_folder_without_one_has_the_form_its_configuration_names(
    tiny: tuple[dp.VLM, Processor], tmp_path: Path
) -> None:
    from deltaprune.hf import DeltapruneProcessor

    save_folder(tmp_path, tiny[0].model, tiny[1].tokenizer)
    (tmp_path / FILE).unlink()
    assert dp.load(tmp_path)[1].chat_template == template_text("zephyr")
    assert DeltapruneProcessor.from_pretrained(tmp_path).chat_template == template_text("zephyr")
    raw = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**raw, "template": "robomamba"}))
    assert dp.load(tmp_path)[1].prompt("What?") == "<image>Question:What? Answer:"
    assert DeltapruneProcessor.from_pretrained(tmp_path).chat_template == template_text("robomamba")
    (tmp_path / FILE).write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match="is not a chat template"):
        dp.load(tmp_path)
