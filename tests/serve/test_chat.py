"""What OpenAI's client gets from a real server on the loopback equals what the library itself says."""

from typing import Any

import pytest
from chats import Served, about, answer, uri

from deltaprune.cost import share_of
from deltaprune.methods import parse
from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM

Model = tuple[VLM, Processor]
QUESTION = "How many red circles are there?"


@pytest.mark.parametrize("method", [None, "none", "dtp:keep=0.5", "fastv:keep=0.25", "vtw", "stateful:keep=0.5"])
def test_an_answer_is_that_of_ask(served: Served, tiny: Model, pictures: list[bytes], method: str | None) -> None:
    for picture in pictures[:2]:
        expected = answer(tiny, picture, QUESTION, method or "none")
        assert served.says(about(picture, QUESTION), method, max_tokens=16) == expected


def test_the_reply_has_the_form_of_openai(served: Served, tiny: Model, pictures: list[bytes]) -> None:
    reply = served.chat(about(pictures[0], QUESTION), "dtp:keep=0.5", max_tokens=5)
    assert reply.object == "chat.completion"
    assert reply.model == "tiny"
    (choice,) = reply.choices
    assert (choice.index, choice.message.role) == (0, "assistant")
    text = len(tiny[1].encode_text([QUESTION])["input_ids"][0])
    assert reply.usage.prompt_tokens == text + 16
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    told = reply.usage.deltaprune
    assert told["method"] == "dtp:keep=0.5"
    assert (told["visual_tokens"], told["after"], told["kept"]) == (16, [1, 3], [8, 0])
    assert told["macs_share"] == pytest.approx(share_of(tiny[0].config, parse("dtp:keep=0.5"), text), abs=1e-6)


def test_a_limit_ends_an_answer_with_length(served: Served, tiny: Model, pictures: list[bytes]) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        reply = served.chat(about(pictures[1], QUESTION), **{name: 3})
        assert reply.choices[0].finish_reason == "length"
        assert reply.usage.completion_tokens == 3
        assert reply.choices[0].message.content == answer(tiny, pictures[1], QUESTION, tokens=3)


@pytest.mark.parametrize("method", ["none", "dtp:keep=0.5"])
def test_a_stream_is_the_same_text_in_parts(served: Served, pictures: list[bytes], method: str) -> None:
    chat = about(pictures[2], "What is in the picture?")
    whole = served.chat(chat, method, max_tokens=40)
    chunks = list(served.chat(chat, method, max_tokens=40, stream=True, stream_options={"include_usage": True}))
    parts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(parts) == whole.choices[0].message.content
    assert len(parts) > 1
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason
    assert not chunks[-1].choices
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stop_text_ends_an_answer_and_is_not_in_it(served: Served, tiny: Model, pictures: list[bytes]) -> None:
    question, stop = "What is in the picture?", "sistant"
    whole = answer(tiny, pictures[2], question, tokens=40)
    expected = whole[: whole.index(stop)]
    assert expected
    for given in (stop, ["never there", stop]):
        reply = served.chat(about(pictures[2], question), max_tokens=40, stop=given)
        assert reply.choices[0].message.content == expected
        assert reply.choices[0].finish_reason == "stop"
        assert reply.usage.completion_tokens < 40
    chunks = served.chat(about(pictures[2], question), max_tokens=40, stop=stop, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected


def test_several_answers_are_those_of_their_seeds(served: Served, pictures: list[bytes]) -> None:
    def says(**values: Any) -> list[str]:
        reply = served.chat(about(pictures[0], QUESTION), max_tokens=12, temperature=1.5, **values)
        assert [choice.index for choice in reply.choices] == list(range(values.get("n", 1)))
        return [choice.message.content for choice in reply.choices]

    several = says(n=3, seed=7)
    assert len(set(several)) > 1
    assert says(n=3, seed=7) == several
    assert [says(seed=7 + i)[0] for i in range(3)] == several
    assert says(n=3, seed=7, top_p=0.3) != several
    streamed = ["", "", ""]
    for chunk in served.chat(about(pictures[0], QUESTION), max_tokens=12, temperature=1.5, n=3, seed=7, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == several


def test_greedy_answers_of_one_request_are_alike(served: Served, tiny: Model, pictures: list[bytes]) -> None:
    reply = served.chat(about(pictures[3], QUESTION), n=2, max_tokens=8)
    assert {choice.message.content for choice in reply.choices} == {answer(tiny, pictures[3], QUESTION, tokens=8)}


def test_a_second_turn_goes_on_from_the_first(served: Served, tiny: Model, pictures: list[bytes]) -> None:
    first = about(pictures[0], "What is this?")
    chat = [*first, {"role": "assistant", "content": "A circle"}, {"role": "user", "content": "Which colour?"}]
    plain = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}, *chat[1:]]
    expected = answer(tiny, pictures[0], plain)
    assert served.says(chat, max_tokens=16) == expected
    assert expected != answer(tiny, pictures[0], "What is this?")
    message = served.chat(first, max_tokens=4).choices[0].message  # as clients send an answer back
    sent = [*first, message.model_dump(), {"role": "user", "content": "Which colour?"}]
    plain[1] = {"role": "assistant", "content": message.content}
    assert served.says(sent, max_tokens=16) == answer(tiny, pictures[0], plain)


def test_a_chat_needs_no_picture(served: Served, tiny: Model) -> None:
    vlm, processor = tiny
    reply = served.chat([{"role": "user", "content": "Hello there."}], "dtp:keep=0.5", max_tokens=8)
    assert reply.choices[0].message.content == processor.decode(vlm.answer(processor(text="Hello there."), 8).ids[0])
    told = reply.usage.deltaprune
    assert (told["visual_tokens"], told["visual_tokens_kept"], told["macs_share"]) == (0, 0, 1.0)


def test_a_picture_is_run_once_for_each_method(served: Served, pictures: list[bytes]) -> None:
    def hit(method: str, question: str) -> bool:
        usage = served.chat(about(pictures[3], question), method, max_tokens=2).usage
        assert usage.prompt_tokens_details.cached_tokens == (16 if usage.deltaprune["image_prefix_hit"] else 0)
        return usage.deltaprune["image_prefix_hit"]

    before = served.metric("deltaprune_image_prefix_hits_total")
    assert [hit("vtw:after=2", "One?"), hit("vtw:after=2", "Two?"), hit("vtw:after=1", "Two?")] == [False, True, False]
    assert served.metric("deltaprune_image_prefix_hits_total") == before + 1


def test_without_memory_for_prefixes_every_picture_is_run(serve: Any, tiny: Model, pictures: list[bytes]) -> None:
    served = serve(prefix_bytes=0)
    for _ in range(2):
        reply = served.chat(about(pictures[0], QUESTION), max_tokens=16)
        assert reply.choices[0].message.content == answer(tiny, pictures[0], QUESTION)
        assert not reply.usage.deltaprune["image_prefix_hit"]


def test_the_other_addresses(served: Served, pictures: list[bytes]) -> None:
    client = served.client
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "deltaprune"
    health = client.with_options(base_url=served.url).get("/health", cast_to=object)
    assert health["status"] == "ok"
    before = served.metric("deltaprune_requests_total")
    served.says(about(uri(pictures[0], "application/octet-stream"), QUESTION), max_tokens=1)
    assert served.metric("deltaprune_requests_total") == before + 1
    assert served.metric("deltaprune_time_to_first_token_seconds_count") >= 1
    assert served.metric("deltaprune_visual_rows_total") >= 16
    assert served.metric("deltaprune_queue_length") == 0
