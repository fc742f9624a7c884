"""How a chat becomes a prompt: chat templates in Jinja, with the variables that transformers passes to them.

A template is a `.jinja` file of this folder, or the text that a model family brings as `Family.chat_template`. A model
folder holds a copy, `chat_template.jinja`, which transformers and other libraries read as well. Rendering it needs only
`messages` and `add_generation_prompt`.
"""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from deltaprune.errors import UserError, did_you_mean, in_words
from deltaprune.models import registry as families

if TYPE_CHECKING:
    from jinja2 import Template

FILE = "chat_template.jinja"  # in a model folder


@lru_cache
def template_text(name: str) -> str:
    """The Jinja text of a template.

    Args:
        name: "zephyr" (Cobra), "robomamba", or the registered name of a model family that brings its own template.

    Raises:
        UserError: there is no such template.
    """
    files = {file.stem: file for file in Path(__file__).parent.glob("*.jinja")}
    if name in files:
        return files[name].read_text(encoding="utf-8")
    brought = {family: families[family].chat_template for family in families.names()}
    known = [*files, *(family for family, text in brought.items() if text is not None)]
    if (text := brought.get(name)) is None:
        raise UserError(f"There is no chat template {name!r}: {did_you_mean(name, known)}.")
    return text


def fill(text: str, messages: list[dict[str, Any]], add_generation_prompt: bool = True) -> str:
    """A chat rendered by a template.

    Args:
        text: the template's Jinja text.
        messages: `{"role": ..., "content": text or typed parts}`.
        add_generation_prompt: open the assistant's turn at the end.

    Raises:
        UserError: the template refuses the chat, in its own words, or is no Jinja text.
    """
    from jinja2 import TemplateError

    try:
        return _compiled(text).render(messages=messages, add_generation_prompt=add_generation_prompt)
    except _Refused as error:
        raise UserError(str(error)) from error
    except TemplateError as error:
        raise UserError(f"The chat template cannot be filled in ({in_words(error)}): restore {FILE}.") from error


class _Refused(Exception):
    """An error that a template itself raises."""


@lru_cache
def _compiled(text: str) -> "Template":
    """Compiled in a sandbox, with the settings and the function that transformers gives to chat templates."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    extensions = ["jinja2.ext.loopcontrols"]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    environment.globals["raise_exception"] = _refuse
    return environment.from_string(text)


def _refuse(message: str) -> NoReturn:
    raise _Refused(message)
