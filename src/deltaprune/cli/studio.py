"""`deltaprune studio`."""

import sys
from typing import Annotated

import typer

from deltaprune.cli._loading import ModelOptions, load_model, loads_of
from deltaprune.cli._options import DeviceOption, DtypeOption, ModelOption, PlanOption, QuantizeOption
from deltaprune.cli._progress import Working
from deltaprune.errors import UserError


def studio(
    model: ModelOption = "bundled",
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on.")] = 7860,
    plan: PlanOption = None,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = None,
    quantize: QuantizeOption = None,
) -> None:
    """Explore pruning in the browser: a picture, a question, two methods, layer by layer.

    Needs the extra `studio`. Works offline. Ctrl-C ends it.
    """
    if not 1 <= port <= 65535:
        raise UserError(f"--port {port} is not a port: it is a whole number from 1 to 65535, such as 7860.")
    with Working("starting") as working:
        from deltaprune.studio.app import check_port, own_app, serve, warm_up

        check_port(host, port)
        options = ModelOptions(model, plan, dtype=dtype, quantize=quantize)
        opened = load_model(options, device, working)
        working.say("warming up (the first run on a machine compiles the kernels)")
        warm_up(opened)
        app = own_app(opened, loads_of(options, device))
    print(f"The studio is at http://{_shown(host)}:{port}/studio/ (Ctrl-C ends it)", file=sys.stderr, flush=True)
    serve(app, host, port)


def _shown(host: str) -> str:
    """An address that a browser on this machine takes."""
    known = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
    return known.get(host, f"[{host}]" if ":" in host else host)
