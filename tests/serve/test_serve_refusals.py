"""Every refusal has its status and one sentence, and the server goes on."""

import json
import threading
from typing import Any

import httpx
import openai
import pytest
from chats import Served, about, png, uri
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from deltaprune.serve.settings import MIB

QUESTION = "How many red circles are there?"
SMALL = png(Image.new("RGB", (32, 32), "red"))
TALL = png(Image.new("L", (6000, 5000)))
HELLO = [{"role": "user", "content": "Hello."}]


def refused(call: Any, status: int, *words: str) -> None:
    """The call ends with this status and a sentence that has these words."""
    with pytest.raises(openai.APIStatusError) as caught:
        call()
    assert caught.value.status_code == status
    error = caught.value.body
    assert isinstance(error, dict)
    message = error["message"]
    for word in words:
        assert word in message
    assert message.endswith(".")
    assert "\n" not in message
    assert set(error) == {"message", "type", "param", "code"}


BAD: dict[str, tuple[dict[str, Any], int, tuple[str, ...]]] = {
    "another model": ({"model": "tinny"}, 404, ("'tinny'", "'tiny'")),
    "an unknown method": ({"method": "dpt"}, 400, ("'dpt'", "'dtp'")),
    "a method that does not fit": ({"method": "vtw:after=9"}, 400, ("9",)),
    "a broken method": ({"method": "dtp:keep"}, 400, ("field=value",)),
    "a misspelt field": ({"metod": "dtp"}, 400, ("'metod'", "'method'")),
    "tools": ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 400, ("'tools'",)),
    "log-probabilities": ({"logprobs": True}, 400, ("'logprobs'",)),
    "no message": ({"messages": []}, 400, ("messages",)),
    "an empty question": ({"messages": [{"role": "user", "content": " "}]}, 400, ("empty",)),
    "a system prompt": ({"messages": [{"role": "system", "content": "Be brief."}, *HELLO]}, 400, ("system",)),
    "no content": ({"messages": [{"role": "user"}]}, 400, ("messages.0.content",)),
    "sound": ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, 400, ("input_audio",)),
    "half a letter": ({"messages": [{"role": "user", "content": "\ud800"}]}, 400, ("Unicode",)),
    "two pictures": ({"messages": [*about(SMALL, "One?"), *about(SMALL, "Two?")]}, 400, ("2 images",)),
    "a late picture": (
        {"messages": [*HELLO, {"role": "assistant", "content": "Hi"}, *about(SMALL, "This?")]},
        400,
        ("first message",),
    ),
    "too many tokens": ({"max_tokens": 2000}, 400, ("2000", "1024")),
    "no token": ({"max_tokens": 0}, 400, ("max_tokens",)),
    "too many answers": ({"n": 17}, 400, ("17", "16")),
    "heat": ({"temperature": 3}, 400, ("temperature",)),
    "no nucleus": ({"top_p": 0}, 400, ("top_p",)),
    "an empty stop": ({"stop": [""]}, 400, ("stop",)),
    "a long prompt": ({"messages": [{"role": "user", "content": "a b " * 9000}]}, 400, ("8192",)),
    "a very long prompt": ({"messages": [{"role": "user", "content": "a" * 600_000}]}, 400, ("letters",)),
    "a truncated PNG": ({"messages": about(TALL[: len(TALL) // 2], QUESTION)}, 400, ("The image",)),
    "half a small PNG": ({"messages": about(SMALL[:60], QUESTION)}, 400, ("The image", "cut short")),
    "no image": ({"messages": about(b"hello", QUESTION)}, 400, ("The image", "not an image")),
    "an empty image": ({"messages": about(b"", QUESTION)}, 400, ("empty",)),
    "broken base64": ({"messages": about("data:image/png;base64,@@@", QUESTION)}, 400, ("base64",)),
    "a text as an image": ({"messages": about(uri(b"a", "text/plain"), QUESTION)}, 400, ("text/plain",)),
    "too many pixels": ({"messages": about(TALL, QUESTION)}, 400, ("6000 x 5000", "25 megapixels")),
    "an address": ({"messages": about("http://127.0.0.1:1/a.png", QUESTION)}, 400, ("data URI",)),
    "a file": ({"messages": about("file:///etc/passwd", QUESTION)}, 400, ("data URI",)),
}


@pytest.mark.parametrize("name", BAD)
def test_a_request_that_cannot_be_answered(served: Served, name: str) -> None:
    values, status, words = BAD[name]
    body = {"model": "tiny", "messages": HELLO, **values}
    content, headers = json.dumps(body), {"Content-Type": "application/json"}
    reply = httpx.post(f"{served.url}/v1/chat/completions", content=content, headers=headers, timeout=30)
    assert reply.status_code == status, reply.text
    message = reply.json()["error"]["message"]
    for word in words:
        assert word in message
    assert message.endswith(".")
    assert "\n" not in message


def test_a_stream_that_cannot_begin_has_a_status(served: Served) -> None:
    refused(lambda: served.chat(about(SMALL[:60], QUESTION), stream=True), 400, "cut short")


def test_the_key(serve: Any) -> None:
    guarded = serve(api_key="secret")
    assert guarded.says(HELLO, max_tokens=2) is not None
    wrong = guarded.client.with_options(api_key="wrong")
    refused(wrong.models.list, 401, "key", "wrong")
    latin = httpx.get(f"{guarded.url}/v1/models", headers={"Authorization": "Bearer s\xe9cret".encode("latin-1")})
    assert latin.status_code == 401
    assert httpx.get(f"{guarded.url}/v1/models").status_code == 401
    assert httpx.get(f"{guarded.url}/health").status_code == 200


def test_an_app_that_is_mounted_is_guarded(serve: Any) -> None:
    inner, outer = serve(api_key="secret", max_body=1000), FastAPI()
    outer.mount("/vlm", inner.app)
    client, key = TestClient(outer), {"Authorization": "Bearer secret"}
    assert client.get("/vlm/v1/models").status_code == 401
    assert client.get("/vlm/v1/models", headers=key).status_code == 200
    assert client.post("/vlm/v1/chat/completions", json={"model": "m"}).status_code == 401
    assert client.post("/vlm/v1/chat/completions", content=b" " * 1001, headers=key).status_code == 413
    assert client.get("/vlm/health").status_code == 200
    assert 'requests_total{status="413"} 1.0' in client.get("/vlm/metrics").text


def test_a_body_of_40_megabytes(served: Served) -> None:
    refused(lambda: served.chat(about(b"0" * 30 * MIB, QUESTION)), 413, "20 MiB")

    def chunks() -> Any:  # whose length nobody tells
        for _ in range(40):
            yield b" " * MIB

    reply = httpx.post(f"{served.url}/v1/chat/completions", content=chunks(), timeout=60)
    assert reply.status_code == 413
    assert served.says(HELLO, max_tokens=2) is not None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"model": "tiny"}', b"\xff"])
def test_what_is_no_request(served: Served, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    reply = httpx.post(f"{served.url}/v1/chat/completions", content=body, headers=headers)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"].endswith(".")


def test_what_is_no_address(served: Served) -> None:
    reply = httpx.get(f"{served.url}/v1/modles")
    assert (reply.status_code, "'/v1/models'" in reply.json()["error"]["message"]) == (404, True)
    assert httpx.get(f"{served.url}/v1/models/tinny").json()["error"]["code"] == "model_not_found"
    reply = httpx.get(f"{served.url}/v1/chat/completions")
    assert (reply.status_code, "GET" in reply.json()["error"]["message"]) == (405, True)


def test_more_answers_than_are_decoded_at_once(serve: Any) -> None:
    refused(lambda: serve(max_rows=8, max_n=9).chat(HELLO, n=9), 400, "9", "8")


def test_a_full_queue(serve: Any) -> None:
    """One answer runs, one waits, and a third is told to come again."""
    busy = serve(queue=1, max_rows=1, max_n=1)
    streams = [busy.chat(HELLO, max_tokens=1024, stream=True)]
    next(iter(streams[0]))
    waiter = threading.Thread(target=lambda: busy.chat(HELLO, max_tokens=1))
    waiter.start()
    while busy.metric("deltaprune_queue_length") < 1:
        pass
    refused(lambda: busy.chat(HELLO, max_tokens=1), 503, "busy")
    streams[0].close()
    waiter.join(30)
    assert not waiter.is_alive()


def test_the_model_fails_on_one_request_alone(
    serve: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve(max_rows=8, max_n=8)
    good = served.says(HELLO, max_tokens=4)
    monkeypatch.setattr("deltaprune.serve.scheduler.Decoding.step", broken)
    refused(lambda: served.chat(HELLO, max_tokens=4), 500, "failed")
    monkeypatch.undo()
    assert served.says(HELLO, max_tokens=4) == good
    assert "no such luck" in caplog.text


def broken(self: Any) -> None:
    raise RuntimeError("no such luck")
