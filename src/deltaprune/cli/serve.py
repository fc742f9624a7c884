"""`deltaprune serve`."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deltaprune.cli._common import (
    check_device,
    check_dtype,
    check_quantize,
    check_whole,
    read_model_config,
    read_towers,
)
from deltaprune.cli._loading import ModelOptions, load_model, loads_of
from deltaprune.cli._options import (
    DeviceOption,
    DtypeOption,
    ModelOption,
    PlanOption,
    QuantizeOption,
    TokenizerOption,
    TowersOption,
)
from deltaprune.cli._progress import Working
from deltaprune.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from fastapi import FastAPI

    from deltaprune.serve.settings import Settings

ENGINES, MIB = ("local", "ray"), 2**20


def serve(
    model: ModelOption = "bundled",
    method: Annotated[
        str, typer.Option("--method", metavar="METHOD", help="Pruning of requests that name none: name:field=value,...")
    ] = "none",
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 is all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on; 0 takes a free one.")] = 8000,
    name: Annotated[
        str | None, typer.Option("--name", help="What clients call the model. [default: the end of --model]")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", envvar="DELTAPRUNE_API_KEY", help="Key that clients must send. [default: none]"),
    ] = None,
    allow_urls: Annotated[bool, typer.Option("--allow-urls", help="Fetch pictures from public web addresses.")] = False,
    max_body: Annotated[int, typer.Option("--max-body", help="Size of a request, MiB.")] = 20,
    max_megapixels: Annotated[int, typer.Option("--max-megapixels", help="Size of a picture.")] = 25,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Length of an answer.")] = 1024,
    max_prompt_tokens: Annotated[int, typer.Option("--max-prompt-tokens", help="Length of a request's text.")] = 8192,
    max_rows: Annotated[int, typer.Option("--max-rows", help="Answers that are decoded at once.")] = 64,
    queue: Annotated[int, typer.Option("--queue", help="Requests that may wait; further ones are refused.")] = 256,
    prefix_memory: Annotated[int, typer.Option("--prefix-memory", help="Memory for image prefixes, MiB.")] = 1024,
    studio: Annotated[
        bool, typer.Option("--studio", help="Also serve the studio, at /studio; no key protects it.")
    ] = False,
    grace: Annotated[int, typer.Option("--grace", help="Seconds for running requests when it stops.")] = 60,
    engine: Annotated[str, typer.Option("--engine", metavar="local|ray", help="This process, or Ray Serve.")] = "local",
    replicas: Annotated[int, typer.Option("--replicas", help="Ray: how many processes hold the model.")] = 1,
    address: Annotated[
        str | None, typer.Option("--address", help="Ray: of the cluster. [default: one on this machine]")
    ] = None,
    plan: PlanOption = None,
    towers: TowersOption = None,
    tokenizer: TokenizerOption = None,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = None,
    quantize: QuantizeOption = None,
) -> int:
    """Serve a model with OpenAI's chat API: /v1/chat/completions, /v1/models, /health, /metrics.

    Ctrl-C or SIGTERM stops it after the running requests are answered.
    """
    most = {"--max-body": max_body, "--max-megapixels": max_megapixels, "--max-tokens": max_tokens, "--grace": grace}
    most |= {"--max-prompt-tokens": max_prompt_tokens, "--max-rows": max_rows, "--queue": queue, "--replicas": replicas}
    for option, value in most.items():
        check_whole(option, value)
    check_whole("--prefix-memory", prefix_memory, 0)
    if not 0 <= port <= 65535:
        raise UserError(f"--port {port} is out of range: it is a whole number from 0 to 65535 (try 8000).")
    if engine not in ENGINES:
        raise UserError(f"There is no engine {engine!r}: {did_you_mean(engine, ENGINES)}.")
    if engine == "local" and (replicas != 1 or address is not None):
        raise UserError("--replicas and --address are for Ray Serve: add --engine ray, or leave them out.")
    if studio and engine == "ray":
        raise UserError("--studio needs the model in this process: leave out --engine ray, or run deltaprune studio.")
    _check_extra(engine)
    _check_hosted(model, engine)
    from deltaprune.methods import parse
    from deltaprune.serve.run import listen, run
    from deltaprune.serve.settings import Settings

    parse(method)
    settings = Settings(
        name=name or Path(model).name or model,
        method=method,
        api_key=api_key or None,
        allow_urls=allow_urls,
        max_body=max_body * MIB,
        max_pixels=max_megapixels * 1_000_000,
        max_prompt_tokens=max_prompt_tokens,
        max_tokens=max_tokens,
        max_rows=max_rows,
        queue=queue,
        prefix_bytes=prefix_memory * MIB,
        grace=grace,
    )
    options = {"towers": read_towers(towers), "tokenizer": tokenizer, "dtype": dtype, "quantize": quantize}
    with listen(host, port) as opened:
        with Working("starting") as working:
            if engine == "ray":
                parse(method).checked_steps(read_model_config(model, plan, towers, tokenizer).shape)
                app = _on_ray(model, {**options, "device": device}, plan, settings, (replicas, address), working)
            else:
                chosen = ModelOptions(model, plan, towers, tokenizer, dtype, quantize)
                app = _here(chosen, device, settings, studio, working)
        url = f"http://{f'[{host}]' if ':' in host else host}:{opened.getsockname()[1]}/v1"
        say = f"serving {settings.name!r} at {url} (Ctrl-C stops)"
        return 0 if run(app, opened, grace, lambda: print(say, file=sys.stderr, flush=True)) else 1


def _here(options: ModelOptions, device: str, settings: "Settings", studio: bool, working: Working) -> "FastAPI":
    """The app with the model in this process."""
    from deltaprune.serve.app import create_app

    loaded = load_model(options, device, working)
    app = create_app(*loaded, settings)
    if studio:
        from deltaprune.studio import mount

        app = mount(app, loaded, loads=loads_of(options, device))
    return app


def _on_ray(
    model: str,
    options: dict[str, Any],
    plan: str | None,
    settings: "Settings",
    where: tuple[int, str | None],
    working: Working,
) -> "FastAPI":
    """The app in front of replicas, which run when it returns."""
    from deltaprune.serve.app import app_for
    from deltaprune.serve.metrics import Metrics
    from deltaprune.serve.ray import RayEngine, Source, plugin_files

    replicas, address = where
    check_device(options["device"], here=False)
    check_dtype(options["dtype"])
    check_quantize(options["quantize"], options["device"])
    source = Source(model, options, plan, plugin_files())
    working.say(f"starting {replicas} replicas")
    replicated = RayEngine(source, settings, replicas, address, gpu=options["device"] == "cuda")
    replicated.start()
    return app_for(replicated, settings, Metrics())


def _check_hosted(model: str, engine: str) -> None:
    """Check that a folder of transformers' own is asked for nothing but its answers, else a `UserError`."""
    from deltaprune.hosted.recognise import is_hosted

    if engine == "ray" and is_hosted(model):
        raise UserError(
            f"{model} is a model of transformers' own, which is served by one process: leave out --engine ray."
        )


def _check_extra(engine: str) -> None:
    """Check that the packages of the extra are installed, else a `UserError`."""
    for package in ("fastapi", "uvicorn", "prometheus_client", *(["ray"] if engine == "ray" else [])):
        if find_spec(package) is None:
            extras = "serve,ray" if engine == "ray" else "serve"
            raise UserError(f"`deltaprune serve` needs {package}: pip install 'deltaprune[{extras}]'.")
