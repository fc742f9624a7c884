"""The studio on a web server: mounted on an app that is there, or on one of its own."""

import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

from deltaprune.errors import UserError
from deltaprune.hosted.model import Hosted
from deltaprune.hosted.processor import HostedProcessor
from deltaprune.mllm.processor import Processor
from deltaprune.studio import view
from deltaprune.studio.choices import method_names
from deltaprune.studio.door import door_of
from deltaprune.studio.pictures import icon
from deltaprune.studio.session import Session
from deltaprune.vlm import VLM

if TYPE_CHECKING:
    from fastapi import FastAPI, Response

Loaded = tuple[VLM, Processor] | tuple[Hosted, HostedProcessor]  # what `load` gave
LARGEST = "40mb"  # of a picture file


def mount(
    app: "FastAPI",
    model: Loaded,
    path: str = "/studio",
    loads: Mapping[str, str] | None = None,
) -> "FastAPI":
    """Put the studio on an app, under a path. Nothing that it shows is loaded from elsewhere.

    Args:
        app: a FastAPI app, such as the server's.
        model: what `load` gave.
        path: where, beginning with a slash.
        loads: how the model was loaded, for the lines to share: what was given of "source", "plan", "device", "dtype"
            and "quantize".

    Returns:
        The same app.

    Raises:
        UserError: Gradio or FastAPI is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported, and by its threads
    try:
        import gradio as gr
    except ImportError as error:
        raise UserError(
            "The studio needs Gradio, which is not installed: run pip install 'deltaprune[studio]'."
        ) from error
    from deltaprune.studio.events import wire
    from deltaprune.studio.look import CSS, HEAD, THEME
    from deltaprune.studio.page import lay_out

    door, given = door_of(*model), dict(loads or {})
    header = view.header(given.get("source", door.name), door.about, door.warning)
    with gr.Blocks(title="deltaprune studio", analytics_enabled=False) as page:
        places = lay_out(header, method_names(), door.scores(), door)
        wire(page, places, model, given)
    if "/favicon.ico" not in {getattr(route, "path", None) for route in app.routes}:  # browsers ask for it on their own
        app.get("/favicon.ico", include_in_schema=False)(_icon)
    return gr.mount_gradio_app(
        app,
        page,
        path,
        footer_links=[],
        run_history=False,
        max_file_size=LARGEST,
        show_error=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        theme=THEME,
        css=CSS,
        head=HEAD,
    )


def _icon() -> "Response":
    from fastapi import Response

    return Response(icon(), media_type="image/png")


def own_app(model: Loaded, loads: Mapping[str, str] | None = None) -> "FastAPI":
    """An app with nothing but the studio, to which its root leads."""
    try:
        from fastapi import FastAPI
        from fastapi.responses import RedirectResponse
    except ImportError as error:
        raise UserError(
            "The studio needs FastAPI, which is not installed: run pip install 'deltaprune[studio]'."
        ) from error
    app = FastAPI(title="deltaprune studio", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/", include_in_schema=False)
    def root() -> RedirectResponse:
        return RedirectResponse("/studio/")

    return mount(app, model, loads=loads)


def warm_up(model: Loaded) -> None:
    """Run what a visitor's first look runs, so that compiling the kernels does not fall on it."""
    Session(*model)


def check_port(host: str, port: int) -> None:
    """The address is free, else a `UserError`."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, port))
    except socket.gaierror as error:
        raise UserError(
            f"{host!r} is no address of this machine ({error.strerror}): choose another --host, such as 127.0.0.1."
        ) from error
    except OSError as error:
        raise UserError(
            f"{host}:{port} cannot be used ({error.strerror or error}): choose another with --port, such as {port + 1}."
        ) from error


def serve(app: "FastAPI", host: str, port: int) -> None:
    """Answer until Ctrl-C."""
    import uvicorn

    uvicorn.run(app, host=host, port=port, log_level="warning")
