"""The app on Ray Serve: the local engine's answers, one replica a picture, and a replica that is killed under load."""

import asyncio
import os
import signal
import socket
import warnings
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import psutil
import pytest
from chats import answer

from deltaprune import UserError
from deltaprune.checkpoints.folder import save_folder
from deltaprune.mllm.processor import Processor
from deltaprune.serve.jobs import Job, Piece, Reading
from deltaprune.serve.settings import Settings
from deltaprune.vlm import VLM

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'deltaprune[serve,ray]'")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of ray.serve itself, while it is imported
    from deltaprune.serve.errors import ApiError
    from deltaprune.serve.ray import RayEngine, Source, rank

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
QUESTION = "How many red circles are there?"


def job(picture: bytes, method: str = "none", **values: Any) -> Job:
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
    return Job(messages, picture, sha256(picture).hexdigest(), method, max_tokens=16, **values)


async def told(engine: RayEngine, asked: Job) -> tuple[Reading, str]:
    reading, *pieces = [each async for each in engine.answer(asked)]
    assert isinstance(reading, Reading)
    text = ""
    for piece in pieces:
        assert isinstance(piece, Piece)
        text += piece.text
    assert piece.reason is not None
    return reading, text


@pytest.fixture
def engine(tiny: tuple[VLM, Processor], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayEngine]:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_folder(folder, tiny[0].model, tiny[1].tokenizer)
    made = RayEngine(Source(str(folder)), Settings(name="tiny"), replicas=2)
    made.start()
    yield made
    made.stop()


def replicas() -> list[int]:
    """The processes of the replicas."""
    named = ((each.pid, " ".join(each.info["cmdline"] or [])) for each in psutil.process_iter(["cmdline"]))
    return [pid for pid, name in named if "ServeReplica:deltaprune:model" in name]


@pytest.mark.slow
def test_a_killed_replica_loses_nothing(engine: RayEngine, tiny: tuple[VLM, Processor], pictures: list[bytes]) -> None:
    several = [picture + bytes([i]) for picture in pictures for i in range(3)]
    methods = ("none", "dtp:keep=0.5")
    expected = {(p, m): answer(tiny, p, QUESTION, m) for p in several for m in methods}

    async def run() -> tuple[int, int, list[bool]]:
        hits = [(await told(engine, job(picture)))[0].hit for picture in several * 2]
        answered = wrong = 0
        until = asyncio.get_running_loop().time() + 6

        async def client(turn: int) -> None:
            nonlocal answered, wrong
            while asyncio.get_running_loop().time() < until:
                picture, method = several[turn % len(several)], methods[turn % 2]
                _, text = await told(engine, job(picture, method, stream=turn % 3 == 0))
                answered, wrong, turn = answered + 1, wrong + (text != expected[picture, method]), turn + 5

        clients = [asyncio.ensure_future(client(turn)) for turn in range(12)]
        await asyncio.sleep(1)
        os.kill(replicas()[0], signal.SIGKILL)
        await asyncio.gather(*clients)
        return answered, wrong, hits

    answered, wrong, hits = asyncio.run(run())
    assert wrong == 0
    assert answered >= 24
    assert hits == [False] * len(several) + [True] * len(several)
    with pytest.raises(ApiError, match="'dpt'"):
        asyncio.run(told(engine, job(pictures[0], "dpt")))


def test_a_picture_keeps_its_replica_as_others_come_and_go() -> None:
    def first(digest: str, names: list[str]) -> str:
        return min(names, key=lambda name: rank(digest, name))

    digests, names = [str(i) for i in range(300)], ["a", "b", "c"]
    before = {digest: first(digest, names) for digest in digests}
    assert all(60 < list(before.values()).count(name) < 140 for name in names)
    assert all(first(digest, ["a", "b"]) == name for digest, name in before.items() if name != "c")


def test_no_cluster_at_the_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match="ConnectionRefusedError"):
        RayEngine(Source("bundled"), Settings(), address=f"127.0.0.1:{port}").start()
    assert not ray.is_initialized()
