"""Every line of the page on commands runs as it is, on small files in the place of the user's own."""

import json
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from benchmark_files import vqa_questions, write_gqa, write_vqa
from checkpoints import cut_off, write_cobra

from deltaprune.benchmarks.gqa import GQA
from deltaprune.benchmarks.vqav2 import VQAv2
from deltaprune.checkpoints.folder import save_folder
from deltaprune.cli import COMMANDS, run
from deltaprune.cli.plot import TAKES
from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM

ROOT = Path(__file__).parents[1]
LISTED = (ROOT / "docs" / "guides" / "commands.md").read_text().split("```")[1]
LINES = [shlex.split(line) for line in LISTED.splitlines() if line]
ON_RAY = [line for line in LINES if "ray" in line]
SERVING = {"studio", "serve"}  # they answer until they are stopped, and have tests of their own


@pytest.fixture(scope="module")
def place(tiny: tuple[VLM, Processor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to stand in, with the user's own files: two models, two benchmarks, and answers to one of them."""
    folder = tmp_path_factory.mktemp("newcomer")
    (folder / "examples").symlink_to(ROOT / "examples")
    save_folder(folder / "tiny", tiny[0].model, tiny[1].tokenizer)
    published = write_cobra(folder, tiny[1].tokenizer)
    for part in (*published.towers.iterdir(), published.tokenizer):
        shutil.copy(part, published.source)
    for name, write in (("gqa", write_gqa), ("vqav2", lambda data: write_vqa(data, "v2_"))):
        (folder / name).mkdir()
        write(folder / name)
    said = [{"question_id": asked["question_id"], "answer": "red"} for asked in vqa_questions()]
    (folder / "ANSWERS.jsonl").write_text("".join(json.dumps(line) + "\n" for line in said))
    return folder


@pytest.fixture(autouse=True)
def _stands_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In that folder, offline, where the two benchmarks are as large as their small files."""
    monkeypatch.chdir(place)
    cut_off(monkeypatch)
    monkeypatch.setattr(GQA, "counts", {"testdev_balanced": (6, 3)})
    monkeypatch.setattr(VQAv2, "counts", {"val2014": (6, 3)})


def with_files(line: list[str]) -> list[str]:
    """The line's words, paths of small files in the place of the user's own and nothing else changed."""
    paths: Mapping[str, str] = {"cobra-bf16": "tiny", "SRC": "run"}
    if "--benchmark" in line:
        paths |= {"DIR": line[line.index("--benchmark") + 1]}
    if "--random-weights" in line:
        paths |= {"cobra": "tiny"}  # of Cobra's own sizes they take 6 GB
    return [paths.get(word, word) for word in line[1:]]


def test_the_list_has_every_command_and_figure() -> None:
    assert {line[0] for line in LINES} == {"deltaprune"}
    assert {line[1] for line in LINES} == set(COMMANDS)
    assert {line[2] for line in LINES if line[1] == "plot"} == set(TAKES)
    assert len(ON_RAY) == 1


def test_every_line_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """One after the other: some read what an earlier one wrote."""
    for line in LINES:
        if line not in ON_RAY and line[1] not in SERVING:
            code = run(with_files(line))
            assert code == 0, f"{shlex.join(line)}: {capsys.readouterr().err}"
            assert capsys.readouterr().out.strip()
            if "--out" in line:
                assert Path(line[line.index("--out") + 1]).exists()


@pytest.mark.filterwarnings("ignore::FutureWarning:ray")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_line_on_ray_runs() -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'deltaprune[ray]'")
    (line,) = ON_RAY
    assert run(with_files(line)) == 0
    out = Path(line[line.index("--out") + 1])
    assert len((out / "answers.jsonl").read_text().splitlines()) == 2 * 6
