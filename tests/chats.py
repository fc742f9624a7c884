"""Requests of a chat about a picture, and what the library itself answers to them."""

import base64
from io import BytesIO
from typing import Any, NamedTuple

import openai
from fastapi import FastAPI
from PIL import Image

from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM


class Served(NamedTuple):
    """A running server: its address, a client, and the app."""

    url: str
    client: openai.OpenAI
    app: FastAPI

    def chat(self, messages: list[Any], method: str | None = None, **values: Any) -> Any:
        """A chat completion, or a stream of it."""
        extra = {} if method is None else {"extra_body": {"method": method}}
        return self.client.chat.completions.create(**{"model": "tiny", "messages": messages, **extra, **values})

    def says(self, messages: list[Any], method: str | None = None, **values: Any) -> str:
        """The text of the first answer."""
        return self.chat(messages, method, **values).choices[0].message.content

    def metric(self, name: str) -> float:
        """A number of the page of metrics."""
        page = self.client.with_options(base_url=self.url).get("/metrics", cast_to=str)
        return sum(float(line.split()[-1]) for line in page.splitlines() if line.split()[0].partition("{")[0] == name)


def uri(content: bytes, kind: str = "image/png") -> str:
    """A file as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def about(picture: bytes | str, question: str) -> list[Any]:
    """A chat of one question about a picture: a PNG file, or an address."""
    url = picture if isinstance(picture, str) else uri(picture)
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
    return [{"role": "user", "content": parts}]


def answer(model: tuple[VLM, Processor], picture: bytes, question: Any, method: str = "none", tokens: int = 16) -> str:
    """What `ask` says: the question alone, greedily."""
    vlm, processor = model
    inputs = processor(images=Image.open(BytesIO(picture)), text=question)
    return processor.decode(vlm.answer(inputs.to(vlm.device), tokens, method=method).ids[0])


def png(image: Image.Image) -> bytes:
    """A picture as a PNG file."""
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
