"""The FastAPI app: its routes, and how errors are reported."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from deltaprune import __version__
from deltaprune.errors import did_you_mean
from deltaprune.hosted.model import Hosted
from deltaprune.mllm.processor import Processor
from deltaprune.serve.chat import Chat
from deltaprune.serve.engine import LocalEngine, parsed
from deltaprune.serve.errors import ApiError, invalid
from deltaprune.serve.gate import Gate
from deltaprune.serve.hosted import HostedEngine
from deltaprune.serve.jobs import Engine
from deltaprune.serve.metrics import Metrics
from deltaprune.serve.schema import ChatRequest
from deltaprune.serve.settings import Settings
from deltaprune.vlm import VLM

PATHS = ("/v1/chat/completions", "/v1/models", "/health", "/metrics")


def create_app(vlm: VLM, processor: Processor, settings: Settings | None = None) -> FastAPI:
    """An OpenAI-compatible server of one model in this process.

    The model's thread starts with the app's lifespan and ends with it, after what runs has been answered. Other apps
    may be mounted on this one, and other threads may use the model, but not change its weights or its plan.

    Args:
        vlm, processor: what `load` gave.
        settings: limits and defaults.

    Raises:
        UserError: the default method is unknown or does not fit the model.
    """
    settings = settings or Settings()
    method = parsed(settings.method)
    vlm.check(method) if isinstance(vlm, Hosted) else method.checked_steps(vlm.shape)
    metrics = Metrics()
    kind: Any = HostedEngine if isinstance(vlm, Hosted) else LocalEngine
    return app_for(kind(vlm, processor, settings, metrics), settings, metrics)


def app_for(engine: Engine, settings: Settings, metrics: Metrics) -> FastAPI:
    """The app in front of any engine."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(engine.start)
        try:
            yield
        finally:
            await asyncio.to_thread(engine.stop)

    app = FastAPI(title="deltaprune", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Gate, settings=settings, metrics=metrics)
    chat, created = Chat(engine, settings, metrics), int(time.time())
    card = {"id": settings.name, "object": "model", "created": created, "owned_by": "deltaprune"}

    @app.post("/v1/chat/completions", response_model=None)
    async def completions(asked: ChatRequest, request: Request) -> Response:
        return await chat(asked, request)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [card]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        if name != settings.name:
            said = did_you_mean(name, [settings.name])
            raise ApiError(404, f"There is no model {name!r}: {said}.", "model", "model_not_found")
        return card

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok", "model": settings.name, "version": __version__}

    @app.get("/metrics", response_model=None)
    async def page() -> Response:
        return Response(metrics.page(), media_type=metrics.content_type)

    _tell_errors(app)
    return app


def _tell_errors(app: FastAPI) -> None:
    """Every error has the same form."""

    def told(error: ApiError) -> JSONResponse:
        return JSONResponse(error.body, error.status, error.headers)

    @app.exception_handler(ApiError)
    async def _(_: Request, error: ApiError) -> JSONResponse:
        return told(error)

    @app.exception_handler(RequestValidationError)
    async def _(_: Request, error: RequestValidationError) -> JSONResponse:
        return told(invalid(error.errors(), ChatRequest.model_fields))

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> JSONResponse:
        path, method = request.url.path, request.method
        if error.status_code == 404:
            return told(ApiError(404, f"There is no address {path!r}: {did_you_mean(path, PATHS)}."))
        if error.status_code == 405:
            return told(ApiError(405, f"{path} takes no {method} request: see the guide to the server."))
        return told(ApiError(error.status_code, f"The request cannot be answered ({error.detail})."))

    @app.exception_handler(Exception)
    async def _(_: Request, error: Exception) -> JSONResponse:
        return told(ApiError(500, "The server failed on this request: its log says why."))
