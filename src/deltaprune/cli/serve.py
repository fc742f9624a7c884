"""`deltaprune serve`."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from deltaprune.cli._common import check_whole, load_model
from deltaprune.cli._options import DeviceOption, DtypeOption, ModelOption, PlanOption, TokenizerOption, TowersOption
from deltaprune.cli._progress import Working
from deltaprune.errors import UserError

MIB = 2**20


def serve(
    model: ModelOption = "bundled",
    method: Annotated[
        str, typer.Option("--method", metavar="METHOD", help="Pruning of requests that name none: name:field=value,...")
    ] = "none",
    host: Annotated[str, typer.Option("--host", help="Where to listen; 0.0.0.0 is every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0 takes a free one.")] = 8000,
    name: Annotated[
        str | None, typer.Option("--name", help="What clients call the model. [default: the end of --model]")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", envvar="DELTAPRUNE_API_KEY", help="Clients must send it. [default: nobody must]"),
    ] = None,
    allow_urls: Annotated[bool, typer.Option("--allow-urls", help="Fetch pictures from public web addresses.")] = False,
    max_body: Annotated[int, typer.Option("--max-body", help="MiB of a request.")] = 20,
    max_megapixels: Annotated[int, typer.Option("--max-megapixels", help="Of a picture.")] = 25,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Of an answer.")] = 1024,
    max_prompt_tokens: Annotated[int, typer.Option("--max-prompt-tokens", help="Of a request's text.")] = 8192,
    max_rows: Annotated[int, typer.Option("--max-rows", help="Answers that are decoded at once.")] = 64,
    queue: Annotated[int, typer.Option("--queue", help="Requests that may wait; further ones are refused.")] = 256,
    prefix_memory: Annotated[int, typer.Option("--prefix-memory", help="MiB for images seen before; 0: none.")] = 1024,
    grace: Annotated[int, typer.Option("--grace", help="Seconds for running requests when it stops.")] = 60,
    plan: PlanOption = None,
    towers: TowersOption = None,
    tokenizer: TokenizerOption = None,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = None,
) -> int:
    """Answer OpenAI's clients: /v1/chat/completions, /v1/models, /health, /metrics.

    Ctrl-C or SIGTERM stops it when the running requests are answered.
    """
    most = {"--max-body": max_body, "--max-megapixels": max_megapixels, "--max-tokens": max_tokens, "--grace": grace}
    most |= {"--max-prompt-tokens": max_prompt_tokens, "--max-rows": max_rows, "--queue": queue}
    for option, value in most.items():
        check_whole(option, value)
    check_whole("--prefix-memory", prefix_memory, 0)
    if not 0 <= port <= 65535:
        raise UserError(f"--port {port} is out of range: it is a whole number from 0 to 65535 (try 8000).")
    _check_extra()
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
    with listen(host, port) as opened:
        with Working("starting") as working:
            from deltaprune.serve.app import create_app

            app = create_app(*load_model(model, device, working, plan, towers, tokenizer, dtype), settings)
        address = f"http://{f'[{host}]' if ':' in host else host}:{opened.getsockname()[1]}"
        say = f"serving {settings.name!r} at {address}/v1 (Ctrl-C stops)"
        return 0 if run(app, opened, grace, lambda: print(say, file=sys.stderr, flush=True)) else 1


def _check_extra() -> None:
    """Check that the packages of the extra are installed, else a `UserError`."""
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        if find_spec(package) is None:
            raise UserError(f"`deltaprune serve` needs {package}: pip install 'deltaprune[serve]'.")
