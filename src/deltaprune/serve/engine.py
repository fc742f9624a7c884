"""The engine of one process: jobs are prepared in a few threads and answered in the model's thread."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import TypeVar

import torch
from PIL import Image
from tokenizers import Tokenizer

from deltaprune.cost import share_of
from deltaprune.errors import NotFinite, UserError
from deltaprune.generate import Sampler, Sampling, greedy
from deltaprune.methods import parse
from deltaprune.mllm.processor import Inputs, Processor
from deltaprune.serve.asked import Asked, Event, New, Read
from deltaprune.serve.errors import ApiError, overloaded, stopping
from deltaprune.serve.images import read_picture
from deltaprune.serve.jobs import Job, Piece, Reading
from deltaprune.serve.metrics import Metrics
from deltaprune.serve.prefixes import ImageKey, Prefixes
from deltaprune.serve.reader import Reader
from deltaprune.serve.scheduler import Scheduler
from deltaprune.serve.settings import Settings
from deltaprune.serve.text import AnswerText
from deltaprune.steps import Method
from deltaprune.vlm import VLM

LETTERS = 64  # no token of a real text is longer on average: a longer prompt is refused before it is tokenized
PREPARING = 2  # threads
COLDEST = 1e-6  # a lower temperature is greedy: logits over it may overflow

T = TypeVar("T")
parsed = lru_cache(maxsize=256)(parse)


class LocalEngine:
    """See `Engine`. `answer` belongs to one event loop.

    Args:
        vlm, processor: what `load` gave.
        settings: limits.
        metrics: what is counted.
    """

    def __init__(self, vlm: VLM, processor: Processor, settings: Settings, metrics: Metrics):
        self.vlm, self.processor, self.settings, self.metrics = vlm, processor, settings, metrics
        self.prefixes = Prefixes(settings.prefix_bytes)
        self.waiting = 0
        self.stopping = False
        self._queues: dict[Asked, asyncio.Queue[Event]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool = ThreadPoolExecutor(PREPARING, "deltaprune-prepare")
        reader = Reader(vlm, processor, self.prefixes)
        self._scheduler = Scheduler(reader, settings.max_rows, metrics, self._post)
        self._share = lru_cache(maxsize=4096)(lambda method, tokens: share_of(vlm.config, method, tokens))

    def start(self) -> None:
        """Run the model once, which compiles its kernels, then take jobs; takes seconds."""
        for name in ("none", self.settings.method):
            inputs = self.processor(images=Image.new("RGB", (32, 32)), text="What is this?")
            self.vlm.answer(inputs.to(self.vlm.device), 2, method=name)
        self._fingerprint = self.vlm.fingerprint
        self._scheduler.start()

    def stop(self) -> None:
        """Finish what runs."""
        self.stopping = True
        self._scheduler.stop()
        self._pool.shutdown()

    async def answer(self, job: Job) -> AsyncGenerator[Reading | Piece, None]:
        """See `Engine.answer`."""
        if self.stopping:
            raise stopping()
        if self.waiting >= self.settings.queue:
            raise overloaded(self.settings.queue)
        self._loop = asyncio.get_running_loop()
        asked, queue = None, asyncio.Queue()
        self._count(1)
        waits = True
        try:
            asked = await self._loop.run_in_executor(self._pool, self._prepare, job)
            self._queues[asked] = queue
            self._scheduler.put(asked)
            read = await queue.get()
            self._count(-1)
            waits = False
            yield self._reading(job, asked, checked(read))
            async for piece in self._pieces(job, asked, queue):
                yield piece
        finally:
            if waits:
                self._count(-1)
            if asked is not None:
                asked.cancelled = True
                self._queues.pop(asked, None)

    async def _pieces(self, job: Job, asked: Asked, queue: "asyncio.Queue[Event]") -> AsyncGenerator[Piece, None]:
        """The answers' parts until all have ended."""
        texts = [AnswerText(self.processor.untidied, job.stops) for _ in range(job.n)]
        going = set(range(job.n))
        while going:
            new = checked(await queue.get())
            assert isinstance(new, New)
            if new.index not in going:
                continue
            text = texts[new.index]
            part = text.add(new.ids, new.reason is not None)
            reason = "stop" if text.stopped else new.reason
            if reason is not None:
                going.discard(new.index)
                asked.stopped.add(new.index)
            yield Piece(new.index, part, len(new.ids), reason)

    def _prepare(self, job: Job) -> Asked:
        """A job as the model takes it; in a thread of the pool."""
        method = said(lambda: self._method(job.method), "method")
        prompt = said(lambda: self.processor.prompt(job.messages), "messages")
        ids = ids_of(prompt, self.processor.tokenizer, self.settings.max_prompt_tokens)
        live = job.stream or bool(job.stops)
        asked = Asked(ids, method, samplers(job, self.vlm.device), job.max_tokens, live)
        if job.image is not None:
            assert job.digest is not None
            asked.image = ImageKey(job.digest, self._fingerprint, repr(method))
            asked.picture = partial(self._pixels, job.image)
            asked.prefix = self.prefixes.get(asked.image)
            asked.hit = asked.prefix is not None
            asked.pixels = None if asked.hit else asked.picture()
        return asked

    def _pixels(self, image: bytes) -> Inputs:
        picture = read_picture(image, self.settings)
        return said(lambda: self.processor.encode_images([picture]), "messages")

    def _method(self, text: str) -> Method:
        method = parsed(text)
        method.checked_steps(self.vlm.shape)
        return method

    def _reading(self, job: Job, asked: Asked, read: Event) -> Reading:
        assert isinstance(read, Read)
        share = self._share(asked.method, len(asked.ids)) if read.visual else 1.0
        return Reading(job.method, len(asked.ids), read.visual, read.after, read.kept, share, read.hit)

    def _count(self, change: int) -> None:
        self.waiting += change
        self.metrics.waiting.set(self.waiting)

    def _post(self, events: list[tuple[Asked, Event]]) -> None:
        """From the model's thread to the event loop."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._deliver, events)
        except RuntimeError:  # the loop is closed, and with it every waiting client
            for asked, _ in events:
                asked.cancelled = True

    def _deliver(self, events: list[tuple[Asked, Event]]) -> None:
        for asked, event in events:
            queue = self._queues.get(asked)
            if queue is not None:
                queue.put_nowait(event)


def ids_of(prompt: str, tokenizer: Tokenizer, most: int) -> list[int]:
    """A prompt's ids, at most so many.

    Raises:
        ApiError: it is no valid text, or too long.
    """
    code = "context_length_exceeded"
    if any("\ud800" <= letter <= "\udfff" for letter in prompt):
        raise ApiError(400, "A message holds half a surrogate pair: send valid Unicode.", "messages")
    if len(prompt) > LETTERS * most:
        message = f"The prompt has {len(prompt)} letters: the limit is {most} tokens, so shorten it."
        raise ApiError(400, message, "messages", code)
    ids = tokenizer.encode(prompt, add_special_tokens=False).ids
    if len(ids) > most:
        message = f"The prompt has {len(ids)} tokens of text: the limit is {most}, so shorten it."
        raise ApiError(400, message, "messages", code)
    return ids


def checked(event: T) -> T:
    """An event that is no error."""
    if isinstance(event, UserError):
        raise ApiError(400, str(event)) from event
    if isinstance(event, NotFinite):
        raise ApiError(500, str(event), code="not_finite") from event
    if isinstance(event, Exception):
        raise ApiError(500, "The model failed on this request: the server's log says why.") from event
    return event


def said(run: Callable, param: str):
    """What `run` gives; a user's mistake becomes a response."""
    try:
        return run()
    except UserError as error:
        raise ApiError(400, str(error), param) from error


def samplers(job: Job, device: torch.device) -> list[Sampler]:
    """One for each answer; the i-th draws from `seed + i`, whatever runs beside it."""
    if job.temperature < COLDEST:
        return [greedy] * job.n
    seed = random.getrandbits(62) if job.seed is None else job.seed
    seeded = (torch.Generator(device).manual_seed((seed + i) % 2**63) for i in range(job.n))
    return [Sampling(job.temperature, 0, job.top_p, generator) for generator in seeded]
