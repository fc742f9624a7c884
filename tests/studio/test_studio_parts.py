"""The studio's small parts: settings as texts, states of patches, drawings, tables, lines to share."""

import base64
import io
import re
import shlex
from dataclasses import fields, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

import deltaprune as dp
from deltaprune.calibrate import save_plan
from deltaprune.cli import run
from deltaprune.methods import parse
from deltaprune.methods import registry as methods
from deltaprune.methods._layers import numbers_of
from deltaprune.mllm.processor import Processor
from deltaprune.pruner import Kept
from deltaprune.steps import Pass
from deltaprune.studio import pictures, tables
from deltaprune.studio.choices import Setting, method_names, score_names
from deltaprune.studio.curve import spread_curve
from deltaprune.studio.layers import DROPPED, KEPT, SKIPPED, WRITTEN, last_choice, patch_at, patch_states
from deltaprune.studio.result import Asked, Result
from deltaprune.studio.share import command_line, python_lines, spans
from deltaprune.vlm import VLM

ROOT = Path(__file__).parents[2]
NAMESPACE = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", method_names())
def test_a_method_begins_with_its_defaults(name: str) -> None:
    setting = Setting.of(name)
    given = parse(setting.text)
    assert given == parse(name) or given == parse(f"{name}:budget=0.6")
    words = {f.name for f in fields(methods[name]) if f.default == "plan"}  # no slider shows a word
    assert setting.controls == {"keep", "budget", "score"} & {f.name for f in fields(methods[name])} - words


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        (Setting("dtp"), "dtp:keep=0.5"),
        (Setting("dtp", keep=0.1 + 0.2, score="readout"), "dtp:keep=0.3,score=readout"),
        (Setting("dtp", more=" early=3;late=none "), "dtp:keep=0.5,early=3;late=none"),
        (Setting("dtp", more="keep=0.9"), "dtp:keep=0.9"),
        (Setting("freeze", score="uniqueness"), "freeze:budget=0.6"),
        (Setting("freeze", budget=0.5, score="delta", more="keep=0.7"), "freeze:budget=0.5,score=delta,keep=0.7"),
        (Setting("vtw"), "vtw"),
        (Setting("none", keep=0.1), "none"),
    ],
)
def test_a_setting_is_written_as_commands_take_it(setting: Setting, text: str) -> None:
    assert setting.text == text
    assert parse(text)


def test_only_scores_that_a_layer_can_serve(tiny: tuple[VLM, Processor]) -> None:
    names = score_names(tiny[0].model.lm.blocks)
    assert {"delta", "readout", "random"} <= set(names)
    assert not {"last_attention", "chosen"} & set(names)


def test_what_becomes_of_each_patch() -> None:
    kept = [Kept(1, (torch.tensor([0, 2, 3]),)), Kept(3, (torch.tensor([3]),))]
    states = patch_states((Pass((1,), "write"), Pass((3,), "skip")), kept, 4, 4)
    K, W, S, D = KEPT, WRITTEN, SKIPPED, DROPPED
    assert states.tolist() == [[K, K, K, K], [K, D, K, K], [W, D, W, W], [D, D, D, K], [D, D, D, S]]
    assert last_choice(states) == {0, 1, 2}
    assert last_choice(patch_states((), [*kept, Kept(4, (torch.tensor([], dtype=torch.int64),))], 4, 4)) == {0, 1, 2}
    assert last_choice(patch_states((), (), 4, 4)) == frozenset()
    assert last_choice(np.full((5, 4), DROPPED, dtype=np.uint8)) == frozenset()


@pytest.mark.parametrize(("x", "y", "patch"), [(0, 0, 0), (0.99, 0.0, 3), (0.26, 0.5, 5), (1.0, 1.0, 7), (-1, 2, 4)])
def test_the_patch_at_a_point(x: float, y: float, patch: int) -> None:
    assert patch_at(x, y, (2, 4)) == patch


@pytest.mark.parametrize("numbers", [{3}, {0, 1, 2, 7}, {5, 4, 9, 10, 12}, set(range(20))])
def test_spans_are_read_back(numbers: set[int]) -> None:
    assert set(numbers_of("drop", spans(numbers), "patches")) == numbers


def elements(svg: str, name: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(svg).findall(f".//{NAMESPACE}{name}")


def test_patches_are_drawn_where_they_are() -> None:
    uri = pictures.data_uri(Image.new("RGB", (40, 20), "red"))
    states = np.array([KEPT, DROPPED, WRITTEN, SKIPPED, DROPPED, KEPT, KEPT, KEPT], dtype=np.uint8)
    drawn = pictures.patches(uri, (40, 20), (2, 4), states)
    assert ElementTree.fromstring(drawn).get("viewBox") == "0 0 640 320"
    (gone,) = elements(drawn, "clipPath")
    assert gone[0].get("d") == "M160 0h160v160h-160zM0 160h160v160h-160z"
    hatched = {e.get("fill"): e.get("d") for e in elements(drawn, "path") if (e.get("fill") or "").startswith("url")}
    assert hatched == {"url(#dp-write)": "M320 0h160v160h-160z", "url(#dp-skip)": "M480 0h160v160h-160z"}
    whole = pictures.patches(uri, (40, 20), (2, 4), np.full(8, KEPT, dtype=np.uint8))
    assert elements(whole, "clipPath") == []


def test_a_heat_map_is_darkest_where_the_score_is_lowest() -> None:
    values = np.array([0.0, 1.0, 2.0, 3.0], dtype=np.float32)
    drawn = pictures.heat_map(pictures.data_uri(Image.new("RGB", (8, 8))), (8, 8), (2, 2), values)
    colours = elements(drawn, "image")[1].get("href") or ""
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(colours.partition(",")[2])))).reshape(4, 3)
    assert pixels[0].tolist() == list(pictures.VIRIDIS[0])
    assert pixels[3].tolist() == list(pictures.VIRIDIS[-1])
    assert (np.diff(pixels.astype(int) @ [0.2126, 0.7152, 0.0722]) > 0).all()
    flat = pictures.heat_map(colours, (8, 8), (2, 2), np.ones(4, dtype=np.float32))
    assert "nan" not in flat


@pytest.mark.parametrize("steep", [False, True])
def test_the_curve_marks_layers(steep: bool) -> None:
    std = np.array([1.0, 2.0, 1.5, 90.0 if steep else 3.0])
    drawn = spread_curve(std, {1: "8 left <b>", 3: ""}, [2, 3], layer=2)
    texts = [e.text for e in elements(drawn, "text")]
    assert "8 left <b>" in texts
    assert any("log scale" in (text or "") for text in texts) == steep
    assert len([e for e in elements(drawn, "path") if e.get("class") == "stage"]) == 2
    assert len([e for e in elements(drawn, "rect") if e.get("class") == "frozen"]) == 2
    heights = [float(e.get("cy") or 0) for e in elements(drawn, "circle")]
    assert np.argsort(heights).tolist() == np.argsort(-std).tolist()
    assert [e.get("class") for e in elements(drawn, "circle")] == ["dot", "now", "dot", "dot"]
    assert ElementTree.fromstring(spread_curve(np.zeros(3), {}, [], 0)) is not None


def row(answer: str, method: str = "dtp:keep=0.5") -> Result:
    ms = {"vision": 1.0, "prefill": 2.0, "decode": 3.25}
    states = np.zeros((3, 4), dtype=np.uint8)
    return Result(method, answer, (4, 2, 0), (1, 2), (2, 2), 0.5, ms, (2, 2), states)


def cells(table: str) -> list[str]:
    return [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td.*?</td>", table)]


def test_answers_are_compared_with_the_unpruned_one() -> None:
    told = tables.answers({"Unpruned": row("2"), "A": row("2"), "B": row("<3>"), "By hand": "No & no."}, "B")
    assert cells(told)[0] == "2"
    assert [cell for cell in cells(told) if "same" in cell or "differs" in cell] == ["2same", "&lt;3&gt;differs"]
    assert "No &amp; no." in told
    assert "<3>" not in told
    assert cells(told)[1:7] == ["4 &rarr; 2 &rarr; 0", "50.0 %", "1.0", "2.0", "3.2", "6.2"]
    assert told.count("shown below") == 1


def test_questions_say_what_the_prefix_saved() -> None:
    first, second = Asked("a?", "none", "1", True, 30.0, 34.0), Asked("<b>?", "none", "2", False, 30.0, 12.0)
    told = cells(tables.asked([first, second]))
    assert told == ["2", "30.0", "12.0", "18.060%", "1", "30.0", "34.0picture run", "&ndash;"]
    assert "<b>?" not in tables.asked([second]).replace("<b>&lt;b&gt;?</b>", "")


QUESTIONS = ["How many objects are there?", "-o 'quoted' \"twice\" $HOME?"]


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("method", ["dtp:keep=0.3,late=none", "chosen:drop=0-200", "none"])
def test_the_lines_to_share_run(
    question: str, method: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both give the answer that the model gives."""
    monkeypatch.chdir(ROOT / "examples")
    model, processor = dp.load("bundled")
    inputs = processor(images="triangles.png", text=question)
    (said,) = processor.batch_decode(model.generate(**inputs, method=method))
    capsys.readouterr()
    _, command, *rest = shlex.split(command_line("triangles.png", question, method, {}))
    assert run([command, "--json", *rest]) == 0
    told = capsys.readouterr().out
    assert f'"answer": "{said}"' in told.split('"method"')[-1]
    exec(python_lines("triangles.png", question, method, {}), {})
    assert capsys.readouterr().out == f"{said}\n"


def test_how_the_model_was_loaded_is_shared() -> None:
    loads = {"source": "my model", "plan": "my plan.json", "device": "cuda", "dtype": "float16"}
    line = command_line("a b.png", "Why?", "vtw", loads)
    options = "--method vtw --model 'my model' --plan 'my plan.json' --device cuda --dtype float16"
    assert line == f"deltaprune ask 'a b.png' 'Why?' {options}"
    lines = python_lines("a b.png", "Why?", "vtw", loads).splitlines()
    assert lines[2] == "model, processor = dp.load('my model', device='cuda', dtype='float16')"
    assert lines[3] == "model.use_plan(dp.load_plan('my plan.json', model.config))"
    assert len([text for text in lines if text]) == 5


def test_the_lines_to_share_use_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Early dropping by the plan's layer, which changes the answer."""
    monkeypatch.chdir(ROOT / "examples")
    model, processor = dp.load("bundled")
    plan = tmp_path / "plan.json"
    save_plan(replace(model.config.plan, early=1, late=2), model.config, plan)
    question, method, loads = "How many objects are there?", "dtp:keep=0.1", {"plan": str(plan)}
    inputs = processor(images="triangles.png", text=question)
    own = processor.batch_decode(model.generate(**inputs, method=method))[0]
    model.use_plan(dp.load_plan(plan, model.config))
    said = processor.batch_decode(model.generate(**inputs, method=method))[0]
    assert said != own
    capsys.readouterr()
    _, command, *rest = shlex.split(command_line("triangles.png", question, method, loads))
    assert run([command, "--json", *rest]) == 0
    assert f'"answer": "{said}"' in capsys.readouterr().out.split('"method"')[-1]
    exec(python_lines("triangles.png", question, method, loads), {})
    assert capsys.readouterr().out == f"{said}\n"
