"""Nothing on the way needs Unix: read from the code, and run in a process that refuses what Windows refuses."""

import ast
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from as_on_windows import ENVIRONMENT, UNIX_ONLY, allowed

from deltaprune.benchmarks.scenes import Scenes
from deltaprune.checkpoints.folder import save_folder
from deltaprune.cost import timing
from deltaprune.evaluate import evaluate

SRC = Path(__file__).parents[1] / "src" / "deltaprune"
FILES = sorted(SRC.rglob("*.py"))
TEXT = {"open", "read_text", "write_text"}
GUARDED = {"cost/timing.py": {"resource"}}  # imported where the system has it, see `_peak_elsewhere`


def imports(tree: ast.AST) -> set[str]:
    """Every module that a file imports, also inside functions; its first name."""
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


def text_without_encoding(tree: ast.AST) -> list[int]:
    """Lines that read or write text in the system's own encoding, or write it with the system's own line ends."""
    lines = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        method = isinstance(call.func, ast.Attribute)
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        words = [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        opens = name == "open" and (not method or bool(words) or not call.args) and not any("b" in w for w in words)
        given = {keyword.arg for keyword in call.keywords}
        wanted = {"encoding", "newline"} if name == "write_text" else {"encoding"}
        if (opens or (method and name in ("read_text", "write_text"))) and not wanted <= given:
            lines.append(call.lineno)
    return lines


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("file.read_text()", [1]),
        ("file.read_text(encoding='utf-8')", []),
        ("open(file)", [1]),
        ("file.open('rb')", []),
        ("file.write_text(text, encoding='utf-8')", [1]),
        ("file.write_text(text, encoding='utf-8', newline='')", []),
    ],
)
def test_a_text_without_encoding_would_be_found(code: str, found: list[int]) -> None:
    assert text_without_encoding(ast.parse(code)) == found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SRC).as_posix())
def test_no_file_needs_unix(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert imports(tree) & set(UNIX_ONLY) <= GUARDED.get(path.relative_to(SRC).as_posix(), set())
    assert text_without_encoding(tree) == [], "give encoding= (and newline= where text is written)"


@pytest.mark.parametrize("name", ["a:b.json", "dtp*.png", "nul", "con.txt", "ends with.", "a\\b"])
def test_a_name_that_windows_refuses_would_be_found(name: str) -> None:
    assert not allowed(name)


def run_as_on_windows(*argv: object) -> subprocess.CompletedProcess[str]:
    here = Path(__file__).parent
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(here), str(SRC.parent)])}
    command = [sys.executable, str(here / "as_on_windows.py"), str(here / "windows_run.py"), *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.skipif(sys.platform != "linux", reason="what is open or mapped is read from /proc")
def test_a_run_and_its_continuation(tiny, tmp_path: Path) -> None:
    """Interrupted, taken up again, and all files of it and of its neighbours written, in two processes."""
    model = tmp_path / "tiny"
    save_folder(model, tiny[0].model, tiny[1].tokenizer)
    assert (interrupted := run_as_on_windows(model, tmp_path, 12)).stderr.endswith("KeyboardInterrupt\n")
    assert interrupted.returncode != 0
    answers = tmp_path / "run" / "answers.jsonl"
    before = answers.read_bytes()
    assert 12 <= before.count(b"\n") < 48
    finished = run_as_on_windows(model, tmp_path, 0)
    assert finished.stdout.endswith("done\n"), finished.stderr
    assert answers.read_bytes().startswith(before), "an answer was asked again"
    evaluate(*tiny, Scenes(), ["dtp:keep=0.5"], limit=24, batch_size=6, max_new_tokens=4, out=tmp_path / "here")
    whole = (tmp_path / "here" / "answers.jsonl").read_bytes()
    assert sorted(answers.read_bytes().splitlines()[:48]) == sorted(whole.splitlines())
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert {"run/report.md", "converted/model.safetensors", "plan.json", "kept.png", "prefix.safetensors"} <= made
    assert not [name for name in made if not all(map(allowed, name.split("/")))]


@pytest.mark.parametrize("platform", ["win32", "darwin", "freebsd14"])
def test_peak_memory_without_proc(platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Process:
        def memory_info(self) -> SimpleNamespace:
            return SimpleNamespace(peak_wset=3_000_000)

    usage = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda who: SimpleNamespace(ru_maxrss=5_000))
    monkeypatch.setattr(timing, "_STATUS", tmp_path / "none")
    monkeypatch.setattr(timing.sys, "platform", platform)
    monkeypatch.setitem(sys.modules, "psutil", SimpleNamespace(Process=Process) if platform == "win32" else None)
    monkeypatch.setitem(sys.modules, "resource", None if platform == "win32" else usage)
    expected = {"win32": 3_000_000, "darwin": 5_000, "freebsd14": 5_120_000}[platform]
    assert timing.peak_bytes(torch.device("cpu")) == expected
