"""The engine of a model of transformers' own: its `generate` answers one request after the other, each by its method.

The hooks of `inplace` and what some families keep of a prompt in the model allow one prompt at a time.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from deltaprune.cost.hosted import hosted_share
from deltaprune.hosted.model import Hosted
from deltaprune.hosted.processor import HostedProcessor
from deltaprune.mllm.processor import Inputs
from deltaprune.pruner import Kept
from deltaprune.serve.engine import PREPARING, checked, ids_of, parsed, said, samplers
from deltaprune.serve.errors import overloaded, stopping
from deltaprune.serve.images import read_picture
from deltaprune.serve.jobs import Job, Piece, Reading
from deltaprune.serve.metrics import Metrics
from deltaprune.serve.settings import Settings
from deltaprune.serve.text import AnswerText
from deltaprune.steps import Method

Told = Reading | Piece | Exception | None  # None: nothing more comes
_LOG = logging.getLogger("deltaprune.serve")


@dataclass(eq=False)
class _Asked:
    """A request on its way: what the model is given, and where its answer goes.

    Attributes:
        job: the request.
        inputs: the prompt.
        method: its pruning.
        put: takes what is sent to the client; may be called from any thread.
        read: whether the client knows that its prompt was read.
        cancelled: the client has left.
    """

    job: Job
    inputs: Inputs
    method: Method
    put: Callable[[Told], None]
    read: bool = False
    cancelled: bool = False


class HostedEngine:
    """See `Engine`. `answer` belongs to one event loop.

    Args:
        vlm, processor: what `load` gave.
        settings: limits; `max_rows` and the memory of prefixes are ignored.
        metrics: what is counted.
    """

    def __init__(self, vlm: Hosted, processor: HostedProcessor, settings: Settings, metrics: Metrics):
        self.vlm, self.processor, self.settings, self.metrics = vlm, processor, settings, metrics
        self.waiting = 0
        self.stopping = False
        self._pool = ThreadPoolExecutor(PREPARING, "deltaprune-prepare")
        self._model = ThreadPoolExecutor(1, "deltaprune-model")

    def start(self) -> None:
        """Run the model once by each way in, so that the first request does not wait for what is made once."""
        inputs = self.processor(images=Image.new("RGB", (32, 32)), text="What is this?")
        for name in ("none", self.settings.method):
            self.vlm.answer(inputs, 2, method=name)

    def stop(self) -> None:
        """Finish what runs."""
        self.stopping = True
        self._pool.shutdown()
        self._model.shutdown()

    async def answer(self, job: Job) -> AsyncGenerator[Reading | Piece, None]:
        """See `Engine.answer`."""
        if self.stopping:
            raise stopping()
        if self.waiting >= self.settings.queue:
            raise overloaded(self.settings.queue)
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Told]()
        asked, waits = None, True
        self._count(1)

        def put(told: Told) -> None:
            try:
                loop.call_soon_threadsafe(queue.put_nowait, told)
            except RuntimeError:  # the loop is closed, and with it every waiting client
                if asked is not None:
                    asked.cancelled = True

        try:
            inputs, method = await loop.run_in_executor(self._pool, self._prepare, job)
            asked = _Asked(job, inputs, method, put)
            self._model.submit(self._run, asked)
            while (told := await queue.get()) is not None:
                if waits:
                    self._count(-1)
                    waits = False
                checked(told)
                assert isinstance(told, Reading | Piece)
                yield told
        finally:
            if waits:
                self._count(-1)
            if asked is not None:
                asked.cancelled = True

    def _prepare(self, job: Job) -> tuple[Inputs, Method]:
        """A job as the model takes it; in a thread of the pool."""
        method = said(lambda: parsed(job.method), "method")
        said(lambda: self.vlm.check(method), "method")
        prompt = said(lambda: self.processor.prompt(job.messages), "messages")
        ids_of(prompt, self.processor.tokenizer, self.settings.max_prompt_tokens)
        pictures = [] if job.image is None else [read_picture(job.image, self.settings)]
        return said(lambda: self.processor.encode([prompt], pictures), "messages"), method

    def _run(self, asked: _Asked) -> None:
        """Every answer of one request, in the model's thread."""
        try:
            for index, sampler in enumerate(samplers(asked.job, self.vlm.device)):
                if asked.cancelled:
                    break
                self.metrics.rows.set(1)
                on_token = self._telling(asked, index)
                most = asked.job.max_tokens
                self.vlm.answer(asked.inputs, most, sampler, method=asked.method, on_token=on_token)
            asked.put(None)
        except Exception as error:
            _LOG.exception("A request failed")
            asked.put(error)
        finally:
            self.metrics.rows.set(0)

    def _telling(self, asked: _Asked, index: int) -> Callable[[int, tuple[Kept, ...]], bool]:
        """What is called with each new token of one answer; whether the answer is over."""
        job, ids = asked.job, list[int]()
        text = AnswerText(self.processor.untidied, job.stops, tidied=str)

        def tell(token: int, kept: tuple[Kept, ...]) -> bool:
            if not asked.read:
                asked.read = True
                asked.put(self._reading(asked, kept))
            ids.append(token)
            ended, full = token in self.vlm.ends, len(ids) == job.max_tokens
            part = text.add([token], ended or full)
            reason = "stop" if text.stopped or ended else "length" if full else None
            asked.put(Piece(index, part, 1, reason))
            return reason is not None or asked.cancelled

        return tell

    def _reading(self, asked: _Asked, kept: tuple[Kept, ...]) -> Reading:
        ids = asked.inputs["input_ids"][0]
        visual = int(self.vlm.is_visual(ids).sum())
        text = len(ids) - visual
        share = hosted_share(self.vlm.config.with_visual(visual), asked.method, text) if visual else 1.0
        after, counts = tuple(stage.after for stage in kept), tuple(stage.counts[0] for stage in kept)
        return Reading(asked.job.method, text, visual, after, counts, share, False)

    def _count(self, change: int) -> None:
        self.waiting += change
        self.metrics.waiting.set(self.waiting)
