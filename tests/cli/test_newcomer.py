"""A newcomer's day: several methods at once, own files, own answers graded again, and what is told on the way."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deltaprune.cli import COMMANDS, app
from deltaprune.methods import parse
from deltaprune.methods import registry as methods
from deltaprune.scores import registry as scores

ROOT = Path(__file__).parents[2]
QUESTION = "How many red circles are there?"
URL = "https://upload.example.org/a/b.png"


def test_ask_shows_every_method_beside_unpruned(
    cli: Callable[..., Any], model: Path, scene: Path, tmp_path: Path
) -> None:
    out = tmp_path / "kept.png"
    asked = ("--method", "dtp:keep=0.25", "--method", "none", "--method", "vtw:after=2", "--overlay", out)
    ran = cli("ask", scene, QUESTION, "What color?", "--model", model, *asked, "--json")
    rows = json.loads(ran.out)
    assert [row["method"] for row in rows] == ["none", "dtp:keep=0.25", "vtw:after=2"] * 2
    assert [row["kept"] for row in rows] == [None, [4, 0], [0]] * 2
    what = "the patches kept for the first question by dtp:keep=0.25, vtw:after=2"
    assert ran.err == f"wrote {out}: {what}; dropped ones are grey and struck through\n"
    with Image.open(out) as drawn:
        assert drawn.width > 2 * 480
    table = cli("ask", scene, QUESTION, "--model", model, *asked)
    assert table.err == ""
    assert table.out.endswith(ran.err)


def test_the_overlay_of_no_pruning_keeps_every_patch(
    cli: Callable[..., Any], model: Path, scene: Path, tmp_path: Path
) -> None:
    out = tmp_path / "kept.png"
    ran = cli("ask", scene, QUESTION, "--model", model, "--method", "none", "--overlay", out)
    assert "kept for the first question by none" in ran.out
    with Image.open(out) as drawn:
        assert np.ptp(np.asarray(drawn)[:480], axis=-1).any()


def test_own_answers_are_graded_again(cli: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    """By method, whichever way it is written; of any seed; and with questions that failed left out."""
    asked = ("--method", "none", "--method", "dtp:keep=0.5", "--limit", 25, "--seed", 3)
    rows = cli("evaluate", "--model", model, *asked, "--out", tmp_path, "--json").rows
    file = tmp_path / "answers.jsonl"
    for row in rows:
        score = cli("score", file, "--benchmark", "scenes", "--method", row["method"], "--json").rows
        assert (score["mean"], score["by_skill"], score["n"]) == (row["mean"], row["by_skill"], 25)
        assert not score["partial"]
    for text in ("dtp", "dtp:keep=0.5,early=plan"):
        assert cli("score", file, "--benchmark", "scenes", "--method", text, "--json").rows["mean"] == rows[1]["mean"]
    (tmp_path / "fewer.jsonl").write_text("\n".join(file.read_text().splitlines()[::3]))
    assert cli("score", tmp_path / "fewer.jsonl", "--benchmark", "scenes", "--method", "none", "--json").rows["n"] > 5


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("--benchmark scenes", "holds the answers of several methods, none, dtp:keep=0.5: choose one (method)."),
        ("--benchmark scenes --method vtw", "holds no answer of 'vtw': it has those of none, dtp:keep=0.5."),
        ("--benchmark scenes --method dpt", "There is no method 'dpt': did you mean 'dtp'?"),
        ("--benchmark scenes --method none --split val", "answers no question of scenes val"),
        ("--benchmark vsr --data . --method none", "holds answers to scenes 2, not to vsr "),
    ],
)
def test_own_answers_that_cannot_be_graded(
    cli: Callable[..., Any], model: Path, tmp_path: Path, argv: str, sentence: str
) -> None:
    asked = ("--method", "none", "--method", "dtp:keep=0.5", "--limit", 2)
    assert cli("evaluate", "--model", model, *asked, "--out", tmp_path).code == 0
    ran = cli("score", tmp_path / "answers.jsonl", *argv.split())
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert sentence in ran.err


def test_answers_of_others_name_no_method(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "said.jsonl").write_text('{"id": "test-0-000000-existence", "answer": "Yes"}\n')
    ran = cli("score", tmp_path / "said.jsonl", "--benchmark", "scenes", "--method", "none")
    assert "does not say which method gave an answer: leave the method out." in ran.err
    assert cli("score", tmp_path / "said.jsonl", "--benchmark", "scenes", "--json").rows["n"] == 1


@pytest.mark.parametrize("seed", range(6))
def test_the_order_of_columns_is_the_same_for_every_seed(cli: Callable[..., Any], model: Path, seed: int) -> None:
    """Some of these begin with a picture that has no sign to read."""
    (row,) = cli("evaluate", "--model", model, "--method", "none", "--limit", 12, "--seed", seed, "--json").rows
    assert list(row["by_skill"]) == sorted(row["by_skill"]) == list(row["floor_by_skill"])


def test_methods_lists_everything(cli: Callable[..., Any]) -> None:
    document = cli("methods", "--json").rows
    table = cli("methods").out
    for kind, registry in (("methods", methods), ("scores", scores)):
        assert [entry["name"] for entry in document[kind]] == registry.names()
        for entry in document[kind]:
            cls: Any = registry[entry["name"]]
            assert entry["class"] == cls.__name__
            assert list(entry["fields"]) == [field.name for field in fields(cls)]
            assert entry["about"]
            assert entry["paper"] or entry["name"] == "none"
            assert re.search(rf"^ {entry['name']} ", table, re.MULTILINE)
            for name, default in entry["fields"].items():
                assert f"{name}={default}" in table


def test_the_defaults_are_listed_as_they_are_written(cli: Callable[..., Any]) -> None:
    for entry in cli("methods", "--json").rows["methods"]:
        text = ",".join(f"{name}={value}" for name, value in entry["fields"].items())
        assert parse(f"{entry['name']}:{text}") == parse(entry["name"])


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_short_too_and_every_command_takes_plugins(name: str, cli: Callable[..., Any]) -> None:
    assert cli(name, "-h") == cli(name, "--help")
    assert "--plugin FILE.py" in cli(name, "-h").out


def test_every_command_that_loads_a_model_takes_device_and_dtype(cli: Callable[..., Any]) -> None:
    loading = ("ask", "evaluate", "sweep", "calibrate", "analyse", "bench", "plot", "studio", "serve")
    for name in loading:
        text = cli(name, "-h").out
        assert "--device cpu|cuda|auto" in text
        assert "--dtype float32|bfloat16|float16" in text
    for name in set(COMMANDS) - {*loading, "convert"}:  # which writes a dtype and runs nothing
        assert "--device" not in cli(name, "-h").out


def test_dtype_is_the_one_that_runs(cli: Callable[..., Any], model: Path, scene: Path, monkeypatch: Any) -> None:
    import torch

    from deltaprune.vlm import VLM

    seen, pack = set(), VLM.pack

    def noted(self: VLM, *args: Any) -> Any:
        seen.add(self.model.lm.backbone.embedding.weight.dtype)
        return pack(self, *args)

    monkeypatch.setattr(VLM, "pack", noted)
    asked = ("--model", model, "--max-new-tokens", 2)
    assert cli("ask", scene, QUESTION, *asked, "--dtype", "bfloat16").code == 0
    assert seen == {torch.bfloat16}
    assert "did you mean 'float16'" in cli("ask", scene, QUESTION, *asked, "--dtype", "flot16").err


@pytest.mark.parametrize("there", [False, True])
def test_device_auto_is_a_gpu_where_there_is_one(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from deltaprune.checkpoints.checkpoint import chosen_device

    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    assert chosen_device("auto").type == ("cuda" if there else "cpu")
    assert chosen_device().type == chosen_device("cpu").type == "cpu"


def test_device_auto_is_for_this_machine(cli: Callable[..., Any], model: Path, scene: Path) -> None:
    asked = ("--model", model, "--device", "auto")
    assert cli("ask", scene, QUESTION, *asked, "--max-new-tokens", 2).code == 0
    ran = cli("evaluate", "--limit", 2, *asked, "--engine", "ray")
    assert (ran.code, ran.out) == (2, "")
    assert "--device auto looks for a GPU on this machine: with --engine ray take cpu or cuda." in ran.err


def paths_of(name: str) -> list[str]:
    """The options and arguments of a command that name a file or a folder."""
    import typer

    command: Any = typer.main.get_command(app)
    words = ("FILE", "FOLDER", "DIR", "IMAGE", "SRC", "DEST", "OUT", "json", "REPORT", "PREDICTIONS")
    params = command.commands[name].params
    found = [each for each in params if any(word in (each.metavar or "") for word in words)]
    return [each.opts[-1] if each.param_type_name == "option" else each.metavar for each in found]


@pytest.mark.parametrize(("name", "what"), [(name, what) for name in COMMANDS for what in paths_of(name)])
def test_a_web_address_is_told_as_it_was_written(name: str, what: str, cli: Callable[..., Any], scene: Path) -> None:
    values = {"IMAGE": scene, "QUESTION": QUESTION, "PREDICTIONS": scene, "SRC": "x", "DEST": "x", "REPORT": ""}
    needed = {"ask": ["IMAGE", "QUESTION"], "score": ["PREDICTIONS"], "convert": ["SRC", "DEST"], "plot": ["REPORT"]}
    argv = [URL if word == what else values[word] for word in needed.get(name, [])]
    argv = {"plot": ["tradeoff"], "analyse": ["map"]}.get(name, []) + [word for word in argv if word]
    more = {"score": ["--benchmark", "scenes"], "budget": ["--macs", 0.5]}.get(name, [])
    ran = cli(name, *argv, *more, *([what, URL] if what.startswith("--") else []))
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert f"{what} {URL!r} is a web address: download it and give the path on this machine." in ran.err


def test_the_address_of_a_model_names_its_id(cli: Callable[..., Any], scene: Path) -> None:
    ran = cli("ask", scene, QUESTION, "--model", "https://huggingface.co/han1997/cobra")
    assert "or the id of the Hub, 'han1997/cobra'" in ran.err


def test_the_bundled_model_says_once_what_it_knows() -> None:
    code = "import deltaprune as dp; dp.load('bundled'); dp.load('bundled')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (0, "", 1)
    assert "was trained only on the synthetic pictures" in ran.stderr
    code = "import deltaprune as dp; dp.load('nowhere')"
    assert "bundled model" not in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
