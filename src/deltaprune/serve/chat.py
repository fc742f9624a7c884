"""`/v1/chat/completions`: from a request to a job, and from the job's pieces to the response."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from deltaprune.errors import did_you_mean
from deltaprune.serve.errors import ApiError
from deltaprune.serve.images import picture_file
from deltaprune.serve.jobs import Engine, Job, Piece, Reading
from deltaprune.serve.metrics import Metrics
from deltaprune.serve.replies import Reply, event
from deltaprune.serve.schema import ChatRequest, ImagePart, Message
from deltaprune.serve.settings import Settings

GONE = 499  # the client has closed the connection and reads no response


class Chat:
    """Answers chat requests with an engine."""

    def __init__(self, engine: Engine, settings: Settings, metrics: Metrics):
        self.engine, self.settings, self.metrics = engine, settings, metrics

    async def __call__(self, asked: ChatRequest, request: Request) -> Response:
        """The response; the job is cancelled where the client goes away."""
        answering = asyncio.ensure_future(self._answer(asked))
        gone = asyncio.ensure_future(_until_gone(request))
        try:
            await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
            return await answering if answering.done() else Response(status_code=GONE)
        finally:
            answering.cancel()
            gone.cancel()

    async def _answer(self, asked: ChatRequest) -> Response:
        start = time.perf_counter()
        job = await self._job(asked)
        pieces = self._measured(job, start)
        try:
            reading = await anext(pieces)
            assert isinstance(reading, Reading)
            reply = Reply(asked.model, job, reading)
            if asked.stream:
                usage = asked.stream_options is not None and asked.stream_options.include_usage
                headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
                stream, pieces = _events(reply, pieces, usage), None
                return StreamingResponse(stream, media_type="text/event-stream", headers=headers)
            async for piece in pieces:
                assert isinstance(piece, Piece)
                reply.add(piece)
            return JSONResponse(reply.whole)
        finally:
            if pieces is not None:
                await pieces.aclose()

    async def _measured(self, job: Job, start: float) -> AsyncGenerator[Reading | Piece, None]:
        """The engine's answer, counted."""
        async with aclosing(self.engine.answer(job)) as answer:
            async for told in answer:
                if isinstance(told, Reading):
                    self.metrics.first_token.observe(time.perf_counter() - start)
                    if job.image is not None:
                        (self.metrics.hits if told.hit else self.metrics.misses).inc()
                    self.metrics.visual.inc(told.visual_tokens)
                    self.metrics.kept.inc(told.kept[-1] if told.kept else told.visual_tokens)
                else:
                    self.metrics.tokens.inc(told.tokens)
                yield told
        self.metrics.seconds.observe(time.perf_counter() - start)

    async def _job(self, asked: ChatRequest) -> Job:
        """A request whose fields are all within the limits.

        Raises:
            ApiError: one is not.
        """
        settings, n = self.settings, asked.n or 1
        if asked.model != settings.name:
            said = did_you_mean(asked.model, [settings.name])
            raise ApiError(404, f"There is no model {asked.model!r}: {said}.", "model", "model_not_found")
        name = "max_tokens" if asked.max_completion_tokens is None else "max_completion_tokens"
        most = getattr(asked, name) or min(settings.default_tokens, settings.max_tokens)
        if most > settings.max_tokens:
            raise ApiError(400, f"{name}={most} is more than this server gives: at most {settings.max_tokens}.", name)
        if n > min(settings.max_n, settings.max_rows):  # the answers of a request are decoded together
            most_n = min(settings.max_n, settings.max_rows)
            raise ApiError(400, f"n={n} is more than this server gives: at most {most_n}.", "n")
        urls = [part.image_url.url for m in asked.messages for part in _parts(m) if isinstance(part, ImagePart)]
        if len(urls) > 1:
            raise ApiError(400, f"The chat has {len(urls)} images: it can have one, in its first message.", "messages")
        image, digest = await asyncio.to_thread(picture_file, urls[0], settings) if urls else (None, None)
        return Job(
            messages=[_plain(message) for message in asked.messages],
            image=image,
            digest=digest,
            method=settings.method if asked.method is None else asked.method,
            n=n,
            max_tokens=most,
            temperature=asked.temperature or 0.0,
            top_p=1.0 if asked.top_p is None else asked.top_p,
            seed=asked.seed,
            stops=asked.stops,
            stream=bool(asked.stream),
        )


def _parts(message: Message):
    return [] if isinstance(message.content, str) else message.content


def _plain(message: Message) -> dict[str, object]:
    """A message as chat templates read it."""
    if isinstance(message.content, str):
        return {"role": message.role, "content": message.content}
    content = [{"type": "image"} if isinstance(part, ImagePart) else part.model_dump() for part in message.content]
    return {"role": message.role, "content": content}


async def _events(reply: Reply, pieces: AsyncGenerator[Reading | Piece, None], usage: bool) -> AsyncIterator[str]:
    """A stream's events; an error that comes late is one of them. Starlette closes it when the client goes away."""
    async with aclosing(pieces):
        try:
            for each in reply.opening():
                yield each
            async for piece in pieces:
                assert isinstance(piece, Piece)
                reply.add(piece)
                for each in reply.part(piece):
                    yield each
        except ApiError as error:
            yield event(error.body)
            return
        for each in reply.closing(usage):
            yield each


async def _until_gone(request: Request) -> None:
    """Wait until the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
