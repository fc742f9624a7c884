"""The studio on a server: beside other routes, nothing from elsewhere in its page, and its command's mistakes."""

import re
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import deltaprune as dp
from deltaprune.calibrate import save_plan
from deltaprune.cli import run
from deltaprune.errors import UserError
from deltaprune.mllm.processor import Processor
from deltaprune.studio import events, mount, page, view
from deltaprune.studio.app import check_port, own_app
from deltaprune.studio.session import Session
from deltaprune.vlm import VLM

pytestmark = [
    pytest.mark.usefixtures("collected"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def test_it_is_mounted_beside_other_routes(tiny: tuple[VLM, Processor]) -> None:
    app = FastAPI()
    app.get("/health")(lambda: {"status": "ok"})
    app.get("/favicon.ico")(lambda: {"mine": True})
    assert mount(app, tiny, path="/look") is app
    with TestClient(app) as client:
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/favicon.ico").json() == {"mine": True}
        assert client.get("/look/").status_code == 200
        assert client.get("/studio/").status_code == 404


def test_the_page_names_nothing_elsewhere(tiny: tuple[VLM, Processor]) -> None:
    with TestClient(own_app(tiny)) as client:
        got = client.get("/")
        assert (got.status_code, got.url.path) == (200, "/studio/")
        loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"([^\"]+)\"", got.text)
        assert loaded
        assert [address for address in loaded if "//" in address] == []
        assert "fonts.g" not in got.text
        theme = client.get("/studio/theme.css").text
        assert "@import" not in theme
        assert "https:" not in theme
        assert client.get("/favicon.ico").headers["content-type"] == "image/png"
        config = client.get("/studio/config").json()
        assert config["analytics_enabled"] is False
        assert {each["api_visibility"] for each in config["dependencies"]} == {"private"}


def test_every_place_is_filled(tiny: tuple[VLM, Processor]) -> None:
    session = Session(*tiny)
    shown = view.everything(session, {})
    with gr.Blocks():
        places = page.lay_out("", ["dtp"], ["delta"], session.door)
    assert set(events.view_names(places)) <= shown.keys()
    assert set(page.updates(places, shown)) == {places[n] for n in events.view_names(places)}
    assert set(events.DRAWN) - {"notice"} <= view.drawings(Session(*tiny)).keys()


def test_without_gradio_it_says_what_to_install(tiny: tuple[VLM, Processor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"pip install 'deltaprune\[studio\]'"):
        mount(FastAPI(), tiny)


def test_a_port_that_is_taken() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        with pytest.raises(UserError, match=f"127.0.0.1:{port} cannot be used .*--port"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "0"], "--port 0 is not a port"),
        (["--port", "99999"], "--port 99999 is not a port"),
        (["--host", "no.such.host.invalid"], "is no address of this machine"),
        (["--model", "nope"], "nope"),
        (["--plan", "nope.json"], "The plan 'nope.json' cannot be read"),
        (["--plan", "https://example.org/plan.json"], "--plan"),
    ],
)
def test_the_commands_mistakes(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["studio", *options]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_the_command_says_where_the_page_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served = []
    monkeypatch.setattr("deltaprune.studio.app.serve", lambda app, host, port: served.append((host, port)))
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    assert run(["studio", "--port", str(port), "--host", "0.0.0.0"]) == 0
    assert served == [("0.0.0.0", port)]
    assert f"http://127.0.0.1:{port}/studio/" in capsys.readouterr().err


def test_the_command_takes_a_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is the plan of the model that is shown, and the lines to share name it."""
    shown: list[Any] = []
    monkeypatch.setattr("deltaprune.studio.app.own_app", lambda model, loads: shown.extend([model[0].config, loads]))
    monkeypatch.setattr("deltaprune.studio.app.serve", lambda *_: None)
    monkeypatch.setattr("deltaprune.studio.app.check_port", lambda *_: None)
    config = dp.load("bundled")[0].config
    assert config.plan is not None
    plan = tmp_path / "plan.json"
    save_plan(replace(config.plan, early=3, late=7), config, plan)
    assert run(["studio", "--plan", str(plan)]) == 0
    assert ((shown[0].plan.early, shown[0].plan.late), shown[1]) == ((3, 7), {"plan": str(plan)})
    capsys.readouterr()
    other = tmp_path / "other.json"
    other.write_text(plan.read_text().replace('"n_layers": 20', '"n_layers": 64'))
    assert run(["studio", "--plan", str(other)]) == 2
    told = capsys.readouterr().err
    assert "was made for another model" in told
