"""The studio on transformers models: what it shows is what `ask` gives; what it cannot show is a sentence."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import HYBRIDS, make, one

import deltaprune as dp
from deltaprune.analysis.in_place import scores_in_place
from deltaprune.ask import ask
from deltaprune.calibrate import save_plan
from deltaprune.hosted.config import HostedConfig
from deltaprune.hosted.folder import read_hosted_config
from deltaprune.hosted.model import Hosted
from deltaprune.plan import Change, Plan
from deltaprune.scores import registry as scores
from deltaprune.scores.hidden_attention import HiddenAttention
from deltaprune.studio import result as measuring
from deltaprune.studio import view
from deltaprune.studio.layers import DROPPED, KEPT
from deltaprune.studio.result import Result
from deltaprune.studio.session import NO_GRID, Session

pytestmark = pytest.mark.usefixtures("unchecked")
Folder = Callable[[str], Path]
NEW = 2
CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short answers, each measured once."""
    monkeypatch.setattr(measuring, "NEW_TOKENS", NEW)
    monkeypatch.setattr("deltaprune.studio.sight.RUNS", 1)


def result(session: Session, name: str) -> Result:
    found = session.rows()[name]
    assert isinstance(found, Result), found
    return found


@pytest.mark.parametrize("name", ["qwen3_5", "nemotron_h_omni", "lfm2_vl", "internvl"])
def test_it_opens(folder: Folder, name: str) -> None:
    """With a score that the layers tell, and each row as `ask` gives it."""
    loaded: tuple[Any, Any] = dp.load(folder(name))
    session = Session(*loaded)
    assert session.notice == ""
    assert session.score == loaded[0].config.score
    view.everything(session, {})
    for row in ("Unpruned", "A", "B"):
        ours = result(session, row)
        theirs = ask(*loaded, session.sight.image, [session.question], ours.method, NEW)[-1]
        assert (ours.answer, ours.tokens[1:]) == (theirs.answer, tuple(theirs.kept or ()))
        assert (ours.macs_share, ours.grid, set(ours.ms)) == (theirs.macs_share, theirs.grid, set(theirs.ms))
        for after, origin in zip(theirs.after, theirs.kept_origin, strict=True):
            assert np.flatnonzero(ours.states[after] != DROPPED).tolist() == origin.tolist()
    assert result(session, "A").tokens[1:] == (result(session, "A").tokens[0] // 2, 0)


def test_the_command_takes_a_plan(
    cli: Callable[..., Any], folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings go by it, and the page no longer says that nobody calibrated."""
    shown: list[Any] = []
    monkeypatch.setattr("deltaprune.studio.app.own_app", lambda model, loads: shown.extend([model, loads]))
    monkeypatch.setattr("deltaprune.studio.app.serve", lambda *_: None)
    monkeypatch.setattr("deltaprune.studio.app.check_port", lambda *_: None)
    name, file = folder("qwen3_5"), tmp_path / "plan.json"
    plan = Plan(3, 6, {"rule": "by hand"}, freezing=(Change(7, "write", 0.0), Change(2, "skip", 0.1)))
    save_plan(plan, read_hosted_config(name), file)
    assert cli("studio", "--model", name, "--plan", file).code == 0
    assert shown[1] == {"source": str(name), "plan": str(file)}
    session = Session(*shown[0])
    assert (session.door.warning, session.door.shape.plan) == ("", plan)
    assert result(session, "A").after == (3, 6)
    session.change("B", budget=0.91)
    assert result(session, "B").updated == (6, 8)
    ran = cli("studio", "--model", folder("internvl"), "--plan", file)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "was made for another model (name qwen3_5, " in ran.err


def test_patches_are_chosen_by_hand(folder: Folder) -> None:
    loaded: tuple[Any, Any] = dp.load(folder("qwen3_5"))
    session = Session(*loaded)
    session.toggle(0.3, 0.9)  # 4 x 4 tokens: the last row's second
    session.toggle(0.0, 0.0)
    assert np.flatnonzero(session.states[0] == DROPPED).tolist() == [0, 13]
    theirs = ask(*loaded, session.sight.image, [session.question], "chosen:drop=0+13", NEW)[-1]
    assert (result(session, "By hand").answer, result(session, "By hand").tokens) == (theirs.answer, (16, 14))
    session.look(shown="A")
    session.start_by_hand()
    assert len(session.dropped) == 8


def test_pictures_without_a_grid(folder: Folder) -> None:
    """SmolVLM cuts them into tiles: counted, and told so in the page."""
    session = Session(*dp.load(folder("smolvlm")))
    tokens = result(session, "A").tokens
    assert tokens[1] == tokens[0] // 2
    shown = view.everything(session, {})
    assert NO_GRID in shown["counts"]
    assert f"{tokens[0] - tokens[1]} dropped" in shown["counts"]
    assert shown["heat"] == ""
    assert "without a grid there is no map" in shown["about_heat"]
    assert (shown["patches"]["rows"], shown["patches"]["columns"], shown["patches"]["states"]) == (1, 1, [KEPT])
    for step in (lambda: session.toggle(0.5, 0.5), session.start_by_hand):
        step()
        assert session.notice == NO_GRID
        assert not session.dropped


def test_what_cannot_be_shown_is_told(folder: Folder) -> None:
    session = Session(*dp.load(folder("qwen3_5")))
    session.choose("A", "downscale")
    assert "Pictures are shrunk by the model's own processor here" in str(session.rows()["A"])
    session.ask("Is there a star?")
    session.ask("Is there a cross?")
    assert [(asked.first, asked.saved_ms) for asked in session.asked] == [(True, 0)] * 3
    assert "there is no prefix to start from" in session.door.asking
    assert "after 2 and 6 of 8 layers" in session.door.warning
    session.look(score="last_attention", layer=2)
    shown = view.drawings(session)
    assert "No stage behind layer 2 can read this score" in shown["about_heat"]
    assert shown["heat"] == ""
    session.look(layer=4)
    shown = view.drawings(session)
    assert "dp-scale" in shown["about_heat"]
    assert shown["heat"]
    assert shown["curve"].count("<circle") == 4  # after layers 4 to 7
    assert "nan" not in shown["curve"]


@pytest.mark.parametrize("name", HYBRIDS)
def test_scores_in_every_layer(name: str) -> None:
    """What a stage behind a layer chooses by is the highest of them."""
    model, inputs = make(name), one(name)
    vlm = Hosted(model, HostedConfig.of(model, name))
    for score in (scores[vlm.config.score](), scores["uniqueness"]()):
        found = scores_in_place(vlm, inputs, score)
        assert found.shape == (len(vlm.config.layers), 16)
        assert np.isnan(found[-1]).all()
        told, first = np.isfinite(found).all(1), vlm.config.first if score.needs - {"hidden"} else 1
        assert told.tolist() == [*(k >= first for k in range(1, len(found))), False]
        k = int(np.flatnonzero(told)[-1]) + 1
        with dp.DTP(keep=0.25, early=k, late=None, score=score)(model) as target, torch.no_grad():
            model.generate(**inputs, max_new_tokens=1)
        places = vlm.is_visual(inputs["input_ids"])[0].nonzero()[:, 0]
        best = np.sort(np.argsort(-found[k - 1], kind="stable")[:4])
        assert target.kept[0].origin[0].tolist() == places[best].tolist()


def test_scores_of_no_picture_and_of_no_layer() -> None:
    model, inputs = make("qwen2_5_vl"), one("qwen2_5_vl")
    vlm = Hosted(model, HostedConfig.of(model, "qwen2_5_vl"))
    assert np.isnan(scores_in_place(vlm, inputs, HiddenAttention())).all()
    with pytest.raises(dp.UserError, match="give one that has a picture"):
        scores_in_place(vlm, {"input_ids": torch.ones(1, 4, dtype=torch.int64)})


@pytest.mark.slow
@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.skipif(not CHROMIUM.exists(), reason="There is no Chromium at /usr/bin/chromium")
@pytest.mark.parametrize("name", ["qwen3_5", "smolvlm"])
def test_the_page(folder: Folder, name: str, tmp_path: Path) -> None:
    """In a browser: three answers, a patch that is dropped or the sentence why not, and no error in the console."""
    import uvicorn
    from playwright.sync_api import expect, sync_playwright

    from deltaprune.studio.app import own_app

    server = uvicorn.Server(uvicorn.Config(own_app(dp.load(folder(name))), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not server.started and time.monotonic() < until:
        time.sleep(0.05)
    wrong: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
        expect(page.locator("#dp-answers tbody tr")).to_have_count(3, timeout=30_000)
        page.locator("#dp-patches .dp-grid").click(position={"x": 100, "y": 100})
        if name == "smolvlm":
            expect(page.locator("#dp-notice")).to_contain_text("cuts it into tiles", timeout=30_000)
        else:
            expect(page.locator(".dp-legend")).to_contain_text("1 dropped", timeout=30_000)
        shot = page.screenshot(full_page=True, path=tmp_path / f"{name}.png")
        browser.close()
    server.should_exit = True
    thread.join(10)
    assert len(shot) > 50_000
    assert wrong == []
