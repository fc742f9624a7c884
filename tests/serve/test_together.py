"""Many clients at once: every answer is the one that the question has alone, and nobody waits for those who left."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from chats import Served, about, answer

from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM

Model = tuple[VLM, Processor]
METHODS = ("none", "dtp:keep=0.5", "fastv:keep=0.25", "vtw", "stateful:keep=0.5", "dtp:keep=0.25,candidates=all")
QUESTIONS = ("How many red circles are there?", "Is there a blue square?", "What?")
CLIENTS = 32


def wanted(pictures: list[bytes]) -> list[tuple[bytes, str, str, int]]:
    """A request for each client: methods, pictures, questions and lengths are all mixed."""
    return [
        (pictures[i % len(pictures)], QUESTIONS[i % 3], METHODS[(i // 3) % len(METHODS)], 1 + 5 * i % 17)
        for i in range(CLIENTS)
    ]


def all_at_once(served: Served, wants: list[tuple[bytes, str, str, int]], **values: Any) -> list[str]:
    with ThreadPoolExecutor(CLIENTS) as pool:
        calls = [
            pool.submit(served.says, about(picture, question), method, max_tokens=tokens, **values)
            for picture, question, method, tokens in wants
        ]
        return [call.result(60) for call in calls]


@pytest.fixture(scope="module")
def expected(tiny: Model, pictures: list[bytes]) -> list[str]:
    return [answer(tiny, picture, question, method, tokens) for picture, question, method, tokens in wanted(pictures)]


def test_32_clients_with_mixed_methods(served: Served, pictures: list[bytes], expected: list[str]) -> None:
    assert all_at_once(served, wanted(pictures)) == expected


def test_with_few_rows_and_no_prefixes_kept(serve: Any, pictures: list[bytes], expected: list[str]) -> None:
    assert all_at_once(serve(max_rows=3, max_n=1, prefix_bytes=0), wanted(pictures)) == expected


def test_near_ties_are_decided_alone(
    served: Served, pictures: list[bytes], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = served.metric("deltaprune_near_ties_total")
    monkeypatch.setattr("deltaprune.serve.decoding.NEAR", float("inf"))
    few = slice(0, 4)  # every token of every answer reads its prompt again
    assert all_at_once(served, wanted(pictures)[few]) == expected[few]
    assert served.metric("deltaprune_near_ties_total") > before


def test_a_draw_does_not_depend_on_what_runs_beside_it(served: Served, pictures: list[bytes]) -> None:
    wants = wanted(pictures)[:8]
    values: dict[str, Any] = {"temperature": 1.2, "seed": 3}
    alone = [served.says(about(p, q), m, max_tokens=n, **values) for p, q, m, n in wants]
    assert all_at_once(served, wants, **values) == alone


def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def endless(served: Served, **values: Any) -> Any:
    """A request for a long answer: sampled hot, so that it hardly ends by itself."""
    return served.chat([{"role": "user", "content": "Go on."}], max_tokens=1024, temperature=2, seed=1, **values)


def test_a_stream_that_nobody_reads_is_not_decoded_on(served: Served) -> None:
    stream = endless(served, stream=True)
    next(iter(stream))
    until(lambda: served.metric("deltaprune_decoding_rows") == 1)
    tokens = served.metric("deltaprune_generated_tokens_total")
    stream.close()
    until(lambda: served.metric("deltaprune_decoding_rows") == 0)
    assert served.metric("deltaprune_generated_tokens_total") < tokens + 1000


def test_a_request_whose_client_has_left_is_not_decoded_on(served: Served) -> None:
    impatient = Served(served.url, served.client.with_options(timeout=1), served.app)

    def ask() -> None:
        with pytest.raises(Exception, match="timed out"):
            endless(impatient, n=16)  # far longer than the client waits

    started = time.monotonic()
    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: served.metric("deltaprune_decoding_rows") > 0)
    thread.join(30)
    until(lambda: served.metric("deltaprune_decoding_rows") == 0)
    assert time.monotonic() - started < 30
