"""The prompt's template belongs to the model; the message inside it belongs to the benchmark."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from deltaprune.errors import UserError
from deltaprune.mllm.templates import fill

Message = Mapping[str, Any]  # {"role": "user" or "assistant", "content": text, or parts such as {"type": "text", ...}}
Conversation = Sequence[Message]
IMAGES = ("image", "image_url")  # types of the parts that are an image
MARK = "\ue000"  # a private-use character, which no text contains


def render(conversation: Conversation, template: str, go_on: bool = False) -> str:
    """User and assistant in turn -> the prompt for the next answer.

    Args:
        conversation: messages, the user's first. The first one may have an image part, which adds no text: the image
            comes before all text.
        template: the Jinja text of a chat template, see `templates`.
        go_on: the last message is the assistant's, unfinished, instead of the user's.

    Raises:
        UserError: a message or part of an unknown form, other roles or another order, an empty question, an image in
            a later message, or several turns where the template has one.
    """
    texts = [_text(message) for message in conversation]
    _check_roles([message.get("role") for message in conversation], go_on)
    if not all(question.strip() for question in texts[::2]):
        raise UserError("A question of the chat is empty: every message of the user must say something.")
    images = [n for n, message in enumerate(conversation, 1) for part in parts(message) if part["type"] in IMAGES]
    if images not in ([], [1]):
        where = ", ".join(map(str, images))
        raise UserError(f"The chat has images in its messages {where}: there can be one, in the first message.")
    messages = [{"role": m["role"], "content": text} for m, text in zip(conversation, texts, strict=True)]
    return fill(template, messages[:-1]) + texts[-1] if go_on else fill(template, messages)


def ask_in(template: str, question: str) -> str:
    """A question as the only message of a chat, in a template's Jinja text."""
    return fill(template, [{"role": "user", "content": question}])


@lru_cache
def opening(template: str) -> str:
    """The text of a template before the first question."""
    return ask_in(template, MARK).partition(MARK)[0]


def parts(message: Message) -> list[Mapping[str, Any]]:
    """A message's content as typed parts.

    Raises:
        UserError: it has no content, or a part that is neither text nor image.
    """
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, Sequence):
        example = {"role": "user", "content": "What is this?"}
        raise UserError(f"A message of the chat has no content: it must be like {example}.")
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        if kind not in ("text", *IMAGES) or (kind == "text" and not isinstance(part.get("text"), str)):
            known = "{'type': 'text', 'text': ...} and {'type': 'image'}"
            raise UserError(f"The chat has a part of type {kind!r} that cannot be read: there are {known}.")
    return list(content)


def _check_roles(roles: list[Any], go_on: bool) -> None:
    """Check that user and assistant take turns and that the right one is last, else a `UserError`."""
    turns = ["user", "assistant"] * len(roles)
    if not roles or roles != turns[: len(roles)]:
        rule = "they must be 'user' and 'assistant' in turn, 'user' first, and no system prompt"
        raise UserError(f"The chat's roles are {roles}: {rule}.")
    if (roles[-1] == "assistant") != go_on:
        wanted = (
            "the assistant's unfinished one, which is continued" if go_on else "the user's, which the model answers"
        )
        raise UserError(f"The chat's last message is the {roles[-1]}'s: it must be {wanted}.")


def _text(message: Message) -> str:
    """A message's text parts, one below the other."""
    return "\n".join(part["text"] for part in parts(message) if part["type"] == "text")
