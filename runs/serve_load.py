"""The server under load: requests per second, latency, errors, wrong answers and memory, as ratios within one run.

    python runs/serve_load.py            # about 6 minutes on 2 cores
    python runs/serve_load.py --quick    # a smoke test in half a minute; nothing is written

`deltaprune serve` runs in processes of its own, with and without memory for image prefixes; the clients share this one.
What is compared takes turns, so that other work on the machine falls on both. Every answer is compared with the
library's own, one question at a time. Writes numbers/serve_load.md and numbers/serve_load.json.
"""

import argparse
import asyncio
import base64
import contextlib
import itertools
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import deltaprune as dp
from deltaprune.benchmarks.scenes import Scene
from provenance import footer, provenance, publish

CLIENTS, PICTURES, PER_PICTURE, SEED = 64, 16, 10, 0
MEMORY = 24  # MiB for prefixes: little, so that it is full when the server's own memory is first looked at
METHODS = ("none", "dtp:keep=0.5", "freeze:budget=0.6")
QUESTIONS = (
    "How many red circles are there?",
    "Is there a blue square?",
    "What colour is the largest shape?",
    "How many shapes are there?",
    "Is there a triangle?",
    "Is the largest shape red?",
    "How many green crosses are there?",
    "Is there a circle above a square?",
    "What is the shape in the middle?",
    "How many blue things are there?",
)
SERVE = [sys.executable, "-c", "from deltaprune.cli import main; main()", "serve", "--port", "0"]


@dataclass
class Server:
    """A running server."""

    port: int
    pid: int

    @property
    def megabytes(self) -> float:
        """Its resident memory, MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@dataclass
class Load:
    """What some clients got.

    Attributes:
        seconds: of each answered request.
        wrong, errors: answers that differ from the library's own, and responses with another status than 200.
        took: seconds, all rounds together.
        rates: requests per second of each round.
    """

    seconds: list[float] = field(default_factory=list)
    wrong: int = 0
    errors: int = 0
    took: float = 0.0
    rates: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Want:
    """A request as bytes, and the answer that it must have."""

    body: bytes
    answer: str


@contextlib.contextmanager
def serving(*options: str) -> Iterator[Server]:
    """`deltaprune serve` with these options."""
    with subprocess.Popen([*SERVE, *options], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if found := re.search(r"at http://127.0.0.1:(\d+)/v1", line):
                    yield Server(int(found[1]), process.pid)
                    break
            else:
                raise RuntimeError("the server ended before it was ready")
        finally:
            process.terminate()


async def ask(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], body: bytes) -> tuple[int, Any]:
    """One request on an open connection: status and JSON."""
    reader, writer = streams
    lines = ["POST /v1/chat/completions HTTP/1.1", "Host: a", "Content-Type: application/json"]
    writer.write("\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body)
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    assert length is not None
    return int(head.split()[1]), json.loads(await reader.readexactly(int(length[1])))


async def load(server: Server, wants: Iterator[Want], clients: int, seconds: float, into: Load) -> None:
    """`clients` of them, each of which sends its next request when it has its answer."""
    start = time.perf_counter()
    before = len(into.seconds)

    async def client() -> None:
        streams = await asyncio.open_connection("127.0.0.1", server.port)
        while time.perf_counter() < start + seconds:
            want, sent = next(wants), time.perf_counter()
            status, reply = await ask(streams, want.body)
            into.seconds.append(time.perf_counter() - sent)
            into.errors += status != 200
            into.wrong += status == 200 and reply["choices"][0]["message"]["content"] != want.answer
        streams[1].close()

    await asyncio.gather(*(client() for _ in range(clients)))
    took = time.perf_counter() - start
    into.took += took
    into.rates.append((len(into.seconds) - before) / took)


def files() -> list[bytes]:
    """The pictures."""
    made = []
    for seed in range(PICTURES):
        file = BytesIO()
        Scene.from_seed(1000 + seed).image.save(file, "PNG")
        made.append(file.getvalue())
    return made


def request(picture: bytes, question: str, method: str) -> bytes:
    """The body of a request."""
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
    messages = [{"role": "user", "content": parts}]
    return json.dumps({"model": "bundled", "messages": messages, "method": method, "max_tokens": 16}).encode()


def answers(pictures: list[bytes]) -> dict[tuple[int, str, str], str]:
    """The library's own, one question at a time."""
    from PIL import Image

    vlm, processor = dp.load("bundled")
    known = {}
    for i, picture in enumerate(pictures):
        for question in QUESTIONS:
            inputs = processor(images=Image.open(BytesIO(picture)), text=question)
            for method in METHODS:
                known[i, question, method] = processor.decode(vlm.answer(inputs, 16, method=method).ids[0])
    return known


def mixed(pictures: list[bytes], known: dict[tuple[int, str, str], str]) -> Iterator[Want]:
    """Pictures, questions and methods in any order, for ever."""
    wants = [Want(request(pictures[i], question, m), said) for (i, question, m), said in known.items()]
    draw = random.Random(SEED)
    while True:
        yield draw.choice(wants)


def tens(pictures: list[bytes], known: dict[tuple[int, str, str], str]) -> Iterator[Want]:
    """Ten questions about each of ever new pictures: a file with something after its end is another file."""
    for turn in itertools.count():
        i = turn % len(pictures)
        new = pictures[i] + turn.to_bytes(8, "big")
        for question in QUESTIONS[:PER_PICTURE]:
            yield Want(request(new, question, "none"), known[i, question, "none"])


async def measure(kept: Server, off: Server, seconds: float, rounds: int, known: Any, pictures: Any) -> dict[str, Any]:
    """All loads in turn."""
    many, one, with_prefixes, without = Load(), Load(), Load(), Load()
    wants = mixed(pictures, known)
    fresh, fresh_off = tens(pictures, known), tens(pictures, known)
    await load(kept, wants, CLIENTS, seconds / rounds, Load())  # warms up, and fills the memory for prefixes
    await load(kept, itertools.islice(fresh, 0, None, PER_PICTURE), CLIENTS, seconds / rounds, Load())
    await load(off, fresh_off, CLIENTS, seconds / rounds / 2, Load())
    memory = [kept.megabytes]
    for _ in range(rounds):
        await load(kept, wants, CLIENTS, seconds / rounds, many)
        await load(kept, wants, 1, seconds / rounds / 2, one)
        await load(kept, fresh, CLIENTS, seconds / rounds / 2, with_prefixes)
        await load(off, fresh_off, CLIENTS, seconds / rounds / 2, without)
        memory.append(kept.megabytes)
    loads = {"64 clients": many, "1 client": one, "10 a picture": with_prefixes, "10 a picture, no memory": without}
    return {
        "loads": {name: row(each) for name, each in loads.items()},
        "ratios": {
            "64 clients over 1": ratio(many, one),
            "10 questions a picture, prefixes kept over not": ratio(with_prefixes, without),
        },
        "memory_mib": [round(each, 1) for each in memory],
    }


def row(each: Load) -> dict[str, Any]:
    """A line of the table."""
    hundredths = quantiles(each.seconds, n=100)
    return {
        "requests": len(each.seconds),
        "errors": each.errors,
        "wrong": each.wrong,
        "per_second": len(each.seconds) / each.took,
        "p50_ms": 1000 * hundredths[49],
        "p99_ms": 1000 * hundredths[98],
    }


def ratio(first: Load, second: Load) -> float:
    """The median over rounds of the ratio of the rates."""
    return median(a / b for a, b in zip(first.rates, second.rates, strict=True))


def page(document: dict[str, Any]) -> str:
    """The table."""
    lines = [
        "# The server under load",
        "",
        f"The bundled model; {PICTURES} pictures, {len(QUESTIONS)} questions, methods {', '.join(METHODS)} at random; "
        f"{CLIENTS} clients, each of which sends its next request when it has its answer. Server and clients share the "
        "machine, which did other work meanwhile: what is compared took turns, and ratios are medians over rounds.",
        "",
        "| load | requests | errors | wrong | a second | p50, ms | p99, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, each in document["loads"].items():
        counts = f"{each['requests']} | {each['errors']} | {each['wrong']}"
        lines.append(f"| {name} | {counts} | {each['per_second']:.1f} | {each['p50_ms']:.0f} | {each['p99_ms']:.0f} |")
    lines += ["", "| ratio | measured | target |", "|---|---|---|"]
    lines += [f"| {name} | {value:.1f} | 3 |" for name, value in document["ratios"].items()]
    memory = document["memory_mib"]
    load_average = document["load_average"]
    lines += [
        "",
        f"`10 a picture`: every picture is new to the server and asked about {PER_PICTURE} times; `no memory`: the "
        "same with `--prefix-memory 0`. `wrong`: answers that differ from the library's own, one question at a time.",
        "",
        f"Resident memory of the server after each round, MiB: {', '.join(f'{each:.0f}' for each in memory)}. "
        f"Load average before the run: {load_average:.1f}.",
        "",
        footer(document["provenance"]),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    global PICTURES
    if quick:
        PICTURES = 2
    before = os.getloadavg()[0]
    pictures = files()
    known = answers(pictures)
    with serving("--prefix-memory", str(MEMORY)) as kept, serving("--prefix-memory", "0") as off:
        seconds, rounds = (6.0, 2) if quick else (60.0, 6)
        document = asyncio.run(measure(kept, off, seconds, rounds, known, pictures))
    document = {**document, "load_average": before, "provenance": provenance()}
    text = page(document)
    print(text)
    if not quick:
        publish("serve_load", document, text)


if __name__ == "__main__":
    main()
