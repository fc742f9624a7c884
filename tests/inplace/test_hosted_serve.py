"""A model of transformers' own behind the server: what OpenAI's client gets is what `Hosted.answer` gives."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from chats import Served, about, png
from PIL import Image
from serving import running

import deltaprune as dp
from deltaprune.benchmarks.scenes import Scene
from deltaprune.cost.hosted import hosted_share
from deltaprune.generate import Sampling
from deltaprune.methods import parse
from deltaprune.serve.app import create_app
from deltaprune.serve.settings import Settings

pytestmark = pytest.mark.usefixtures("unchecked")
Cli = Callable[..., Any]
METHODS = ("none", "dtp:keep=0.5", "vtw:after=2", "freeze:write=1-3")
ASKED = "What is this?"


@pytest.fixture(scope="module")
def model(folder: Callable[[str], Path]) -> Any:
    return dp.load(folder("qwen3_5"))


@pytest.fixture(scope="module")
def served(model: Any) -> Iterator[Served]:
    vlm, processor = model
    with contextlib.ExitStack() as stack:
        app = create_app(vlm, processor, Settings(name="tiny", max_prompt_tokens=100, queue=64))
        url = stack.enter_context(running(app))
        client = stack.enter_context(openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120))
        yield Served(url, client, app)


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [Scene.from_seed(seed).image for seed in range(3)]


def answer(model: Any, picture: Image.Image | None, text: str, method: str, tokens: int, sampler: Any = None) -> Any:
    vlm, processor = model
    inputs = processor(images=picture, text=text)
    told = vlm.answer(inputs, tokens, method=method, **({} if sampler is None else {"sampler": sampler}))
    return processor.decode(told.ids[0]), told


@pytest.mark.parametrize("method", METHODS)
def test_an_answer_by_each_method(served: Served, model: Any, pictures: list[Image.Image], method: str) -> None:
    reply = served.chat(about(png(pictures[0]), ASKED), method, max_tokens=6)
    text, told = answer(model, pictures[0], ASKED, method, 6)
    assert reply.choices[0].message.content == text
    ids = told.inputs["input_ids"]
    usage, extra = reply.usage, reply.usage.deltaprune
    assert (usage.prompt_tokens, usage.completion_tokens) == (ids.shape[1], told.ids.shape[1])
    assert (extra["method"], extra["visual_tokens"]) == (method, 16)
    assert extra["kept"] == [kept.counts[0] for kept in told.kept]
    config = model[0].config.with_visual(16)
    assert extra["macs_share"] == pytest.approx(hosted_share(config, parse(method), ids.shape[1] - 16), abs=1e-6)


def test_without_a_picture(served: Served, model: Any) -> None:
    chat = [{"role": "user", "content": ASKED}]
    assert served.says(chat, "dtp:keep=0.5", max_tokens=5) == model[1].decode(
        model[0].answer(model[1](text=ASKED), 5).ids[0]
    )


def test_a_stream_is_the_same_text_in_parts(served: Served, pictures: list[Image.Image]) -> None:
    chat = about(png(pictures[1]), ASKED)
    whole = served.chat(chat, "dtp:keep=0.5", max_tokens=12)
    chunks = list(served.chat(chat, "dtp:keep=0.5", max_tokens=12, stream=True))
    parts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(parts) == whole.choices[0].message.content
    assert len(parts) > 1
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason == "length"


def test_a_stop_text_ends_an_answer(served: Served, model: Any, pictures: list[Image.Image]) -> None:
    text, _ = answer(model, pictures[1], ASKED, "none", 12)
    stop = next(text[i : i + 1] for i in range(2, len(text)) if text[i].strip() and text[i] not in text[:2])
    reply = served.chat(about(png(pictures[1]), ASKED), "none", max_tokens=12, stop=stop)
    assert reply.choices[0].message.content == text[: text.index(stop)]
    assert (reply.choices[0].finish_reason, reply.usage.completion_tokens < 12) == ("stop", True)


def test_several_answers_are_those_of_their_seeds(served: Served, model: Any, pictures: list[Image.Image]) -> None:
    import torch

    chat = about(png(pictures[0]), ASKED)
    reply = served.chat(chat, "vtw:after=2", max_tokens=6, n=2, temperature=2.0, seed=5)
    for i, choice in enumerate(reply.choices):
        drawn = Sampling(2.0, generator=torch.Generator().manual_seed(5 + i))
        assert choice.message.content == answer(model, pictures[0], ASKED, "vtw:after=2", 6, drawn)[0]
    assert reply.choices[0].message.content != reply.choices[1].message.content


def test_requests_at_once_are_each_by_their_method(served: Served, model: Any, pictures: list[Image.Image]) -> None:
    jobs = [(pictures[i % 3], METHODS[i % 4]) for i in range(8)]
    wanted = [answer(model, picture, ASKED, method, 4)[0] for picture, method in jobs]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda job: served.says(about(png(job[0]), ASKED), job[1], max_tokens=4), jobs))
    assert got == wanted


@pytest.mark.parametrize(("method", "text", "said"), [
    ("dtp:keep=2", ASKED, "keep=2"), ("dtp:early=9,late=none", ASKED, "beyond"), ("nothing", ASKED, "nothing"),
    ("downscale:keep=0.5", ASKED, "Pictures are shrunk by the model's own processor"), ("none", "long " * 30, "100"),
])  # fmt: skip
def test_mistakes_are_sentences(served: Served, pictures: list[Image.Image], method: str, text: str, said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said):
        served.chat(about(png(pictures[0]), text), method, max_tokens=2)


def test_a_client_that_goes_away_ends_its_answer(served: Served, pictures: list[Image.Image]) -> None:
    stream = served.chat(about(png(pictures[0]), ASKED), "none", max_tokens=1000, stream=True)
    next(iter(stream))
    stream.close()
    reply = served.chat(about(png(pictures[0]), ASKED), "none", max_tokens=2)
    assert reply.usage.completion_tokens == 2
    assert served.metric("deltaprune_generated_tokens_total") < 900


def test_what_the_commands_do_not_serve(cli: Cli, folder: Callable[[str], Path]) -> None:
    ran = cli("serve", "--model", folder("qwen3_5"), "--engine", "ray")
    assert (ran.code, ran.out) == (2, "")
    assert "which is served by one process: leave out --engine ray" in ran.err
    ran = cli("serve", "--model", folder("internvl"), "--method", "dtp", "--port", "0")
    assert (ran.code, "needs step, which no layer before it provides" in ran.err) == (2, True)
