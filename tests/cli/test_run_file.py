"""A run as a file: --save-config writes it, --config reads it, the command line comes first."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deltaprune import __version__
from deltaprune.cli._around import LONG

RUN = {
    "evaluate": ("--limit", 12, "--method", "dtp:keep=0.5", "--method", "none", "--no-prefix", "--json"),
    "sweep": ("--limit", 12, "--share", "0.75:0.85:2", "--method", "dtp", "--json"),
    "calibrate": ("--samples", 2, "--rule", "argmin", "--contribution", "--json"),
    "bench": ("--rounds", 1, "--questions", 2, "--questions", 3, "--json"),
}


def test_every_long_command_is_tried() -> None:
    assert RUN.keys() == set(LONG)


def without_times(document: Any) -> Any:
    """What a run prints, apart from what it took."""
    if isinstance(document, list):
        return [without_times(each) for each in document]
    if isinstance(document, dict):
        timed = ("ms", "prefill_ms", "decode_ms", "peak_bytes", "spread", "ratios", "seconds", "total_ms")
        return {name: without_times(each) for name, each in document.items() if name not in timed and "ms" not in name}
    return document


@pytest.mark.parametrize("command", RUN)
def test_a_saved_run_is_run_again(command: str, cli: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    saved, again = tmp_path / "run.yaml", tmp_path / "again.yaml"
    first = cli(command, "--model", model, *RUN[command], "--save-config", saved).rows
    text = saved.read_text()
    assert text.startswith(f"# deltaprune {command} --config run.yaml   (written by deltaprune {__version__})\n")
    second = cli(command, "--config", saved, "--save-config", again, "--json").rows
    assert without_times(second) == without_times(first)
    assert yaml.safe_load(again.read_text()) == yaml.safe_load(text)


def test_what_is_saved_is_every_option_that_has_a_value(cli: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    saved = tmp_path / "run.yaml"
    assert cli("evaluate", "--model", model, *RUN["evaluate"], "--seed", 3, "--save-config", saved, "-q").code == 0
    assert yaml.safe_load(saved.read_text()) == {
        "model": str(model),
        "benchmark": "scenes",
        "method": ["dtp:keep=0.5", "none"],
        "protocol": "official",
        "no_ocr": False,
        "limit": 12,
        "seed": 3,
        "allow_partial": False,
        "batch_size": 32,
        "prefix": False,
        "engine": "local",
        "device": "cpu",
    }


def test_the_command_line_comes_first(cli: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"model: {model}\nlimit: 6\nmethod: none\nbatch-size: 4\nsplit: null\nplan:\nprefix: false\n")
    (row,) = cli("evaluate", "--config", file, "--json").rows
    assert (row["n"], row["method"]) == (6, "none")
    rows = cli("evaluate", "--limit", 12, "--config", file, "--method", "random", "--json").rows
    assert [(row["n"], row["method"]) for row in rows] == [(12, "random")]


def test_a_plugin_may_be_named_there(cli: Callable[..., Any], tmp_path: Path, own_names: None, model: Path) -> None:
    plugin = Path(__file__).parents[2] / "examples" / "new_score.py"
    file = tmp_path / "run.yaml"
    file.write_text(f"plugin: {plugin}\nmodel: {model}\nlimit: 2\nmethod: ['dtp:score=unusual']\n")
    assert cli("evaluate", "--config", file, "--json").rows[0]["method"] == "dtp:score=unusual"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("limt: 3", "the command has no option 'limt': did you mean 'limit'?"),
        ("json: true", "the command has no option 'json'"),
        ("limit: [1, 2]", "limit takes one value."),
        ("limit: {a: 1}", "limit takes one value."),
        ("method: {a: 1}", "method takes a list of texts."),
        ("method: [[none]]", "method takes a list of texts."),
        ("prefix: 1", "prefix is true or false, not '1'."),
        ("limit: many", "is 'many': Input should be a valid integer"),
        ("limit: 2.5", "In the file of --config, limit is '2.5': Input should be a valid integer"),
        ("batch_size: many", "is 'many': Input should be a valid integer"),
        ("limit: 0", "--limit 0 is out of range"),
        ("out: https://example.org/x", "--out 'https://example.org/x' is a web address"),
        ("", "holds no options"),
        ("- limit", "holds no options"),
        ("a: b: c", "is not YAML"),
        ("\x00", "is not YAML"),
    ],
)
def test_mistakes_in_the_file(text: str, sentence: str, cli: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    ran = cli("evaluate", "--config", file)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert sentence in ran.err


def test_files_that_are_not_there(cli: Callable[..., Any], tmp_path: Path) -> None:
    ran = cli("evaluate", "--config", tmp_path / "run.yaml")
    assert (ran.code, ran.err) == (2, f"--config '{tmp_path}/run.yaml' cannot be read: No such file or directory.\n")
    ran = cli("evaluate", "--save-config", tmp_path / "no" / "run.yaml")
    assert ran.code == 2
    assert "does not exist, so create it first" in ran.err


def test_a_file_runs_no_code(cli: Callable[..., Any], tmp_path: Path) -> None:
    """YAML's tags for Python objects are texts like any other."""
    file = tmp_path / "run.yaml"
    file.write_text(f"out: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n")
    assert cli("evaluate", "--config", file).code == 2
    assert not (tmp_path / "made").exists()
