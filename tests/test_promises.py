"""What CONTRIBUTING promises: a new entry of any kind is one new file and no other edit, tests included.

Each file of `tests/promises/` is put at the same place of a copy of `src/deltaprune/`. The contract of its kind, which
has no list of names, must find it and pass, and so must the command that takes it by name.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
NEW = ROOT / "tests" / "promises"
FOLDERS = ("src", "tests", "runs", "training", "numbers", "examples", "docs")
FILES = ("README.md", "pyproject.toml", "CONTRIBUTING.md")
MAIN = "from deltaprune.cli import main; main()"
PICTURE = "examples/triangles.png"


@dataclass(frozen=True)
class Kind:
    """Where the contract of a kind is, and how an entry is asked for by name.

    Args:
        contract: the test file, which is run on the new entry alone.
        code: Python that prints a JSON document; by default the command line.
        arguments: of the code.
        check: what the document has to say.
    """

    contract: str
    arguments: str
    check: Callable[[Any], bool]
    code: str = MAIN


KINDS = {
    "scores/loudness.py": Kind(
        "contract/test_scores.py",
        "cost --method dtp:score=loudness,keep=0.5 --json",
        lambda rows: rows[0]["method"] == "dtp:score=loudness,keep=0.5",
    ),
    "methods/halves.py": Kind(
        "contract/test_methods.py",
        "cost --model cobra --method halves:keep=0.25 --json",
        lambda rows: rows[0]["kept"] == [182, 0],
    ),
    "benchmarks/doors.py": Kind(
        "contract/test_benchmarks.py",
        "evaluate --benchmark doors --method none --limit 4 --json",
        lambda rows: (rows[0]["benchmark"], rows[0]["n"]) == ("doors", 4),
    ),
    "models/polite.py": Kind(
        "contract/test_models.py",
        f"ask {PICTURE} Where? --model polite --method none --json",
        lambda rows: rows[0]["question"] == "Where?",
    ),
    "blocks/fading.py": Kind(
        "contract/test_blocks.py",
        "",
        lambda names: names == ["fading", "mamba1"],
        "import json; from deltaprune.blocks import blocks; print(json.dumps(blocks.names()))",
    ),
    "kernels/rms_norm/careful.py": Kind(
        "kernels/test_rms_norm.py",
        "",
        lambda chosen: chosen == ["careful", "careful", "numba"],
        "import json; from deltaprune.kernels import select, use; norm = 'deltaprune.kernels.rms_norm'\n"
        "with use('careful'): every = select(norm, 'cpu').name\n"
        "with use(rms_norm='careful'): one = select(norm, 'cpu').name\n"
        "print(json.dumps([every, one, select(norm, 'cpu').name]))",
    ),
    "cost/peers/by_reference.py": Kind(
        "contract/test_bench_peers.py",
        "bench --random-weights --layers 1 --rounds 1 --text-tokens 3 --method none --peers --json",
        lambda rows: "by_reference" in [row.get("kernel") for row in rows],
    ),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, compiled kernels included."""
    folder = tmp_path_factory.mktemp("tree")
    for part in FOLDERS:
        shutil.copytree(ROOT / part, folder / part)
    for file in FILES:
        shutil.copy(ROOT / file, folder)
    return folder


@pytest.fixture
def tree(copy: Path) -> Iterator[Path]:
    """The copy as the original is; new files are removed after the test."""
    yield copy
    for name in touched(copy):
        assert not (ROOT / name).exists()
        (copy / name).unlink()


def touched(tree: Path) -> list[str]:
    """The files in which a tree differs from the original: new ones, changed ones and missing ones."""
    sides = ({file for part in FOLDERS for file in files(root, part)} for root in (ROOT, tree))
    names = set().union(*sides)
    return sorted(name for name in names if not same(ROOT / name, tree / name))


def files(root: Path, part: str) -> Iterator[str]:
    for file in (root / part).rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            yield file.relative_to(root).as_posix()


def same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


def run(tree: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
    return subprocess.run([sys.executable, *command], cwd=tree, env=environment, capture_output=True, text=True)


def pytest_in(tree: Path, *arguments: str) -> str:
    """What pytest prints; it passes."""
    ran = run(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-1000:]
    return ran.stdout


def place(tree: Path, name: str) -> None:
    shutil.copy(NEW / name, tree / "src" / "deltaprune" / name)


def test_every_kind_has_its_new_file() -> None:
    assert sorted(KINDS) == sorted(path.relative_to(NEW).as_posix() for path in NEW.rglob("*.py"))


@pytest.mark.parametrize("name", KINDS)
def test_one_new_file_is_found_tested_and_taken_by_name(name: str, tree: Path) -> None:
    kind, entry = KINDS[name], Path(name).stem
    assert touched(tree) == []
    place(tree, name)
    changed = touched(tree)
    said = pytest_in(tree, f"tests/{kind.contract}", "-k", entry)
    passed = int(re.findall(r"(\d+) passed", said)[0])
    asked = run(tree, "-c", kind.code, *kind.arguments.split())
    assert asked.returncode == 0, asked.stderr
    assert kind.check(json.loads(asked.stdout))
    print(f"{name}: files touched {len(changed)}, contract tests passed {passed}")
    assert changed == [f"src/deltaprune/{name}"]
    assert passed >= 2


def test_a_folder_saved_from_a_new_family_loads_without_it(tree: Path, tmp_path: Path) -> None:
    """Its template went with it."""
    place(tree, "models/polite.py")
    out = tmp_path / "saved"
    ran = run(tree, "-c", MAIN, "convert", "polite", str(out))
    assert ran.returncode == 0, ran.stderr
    (tree / "src/deltaprune/models/polite.py").unlink()
    code = "import sys, deltaprune; print(repr(deltaprune.load(sys.argv[1])[1].prompt('Where?')))"
    assert run(tree, "-c", code, str(out)).stdout == "'Please: Where?\\nGladly: '\n"
    named = run(tree, "-c", MAIN, "ask", PICTURE, "Where?", "--model", "polite")
    assert (named.returncode, named.stderr.count("\n")) == (2, 1)


OWN_TEST = """from deltaprune.{kind} import registry


def test_it_is_found() -> None:
    assert registry["{name}"]() == registry["{name}"]()
"""
WALKS = re.compile(r"\.names\(\)|\bbackends\(|SRC\.rglob")  # a test over a registry, the backends of an op, all files


def walking(tree: Path) -> list[str]:
    """The test files that go through a registry or a folder."""
    found = [file for file in (tree / "tests").rglob("test_*.py") if WALKS.search(file.read_text(encoding="utf-8"))]
    return sorted(file.relative_to(tree).as_posix() for file in found if file.name != Path(__file__).name)


def test_one_of_every_kind_passes_every_test_that_goes_through_a_registry(tree: Path) -> None:
    """Those with the new names as parameters, and all without parameters, such as those over whole lists.

    In this tree a score and a method also bring a test of their own, which computes them independently.
    """
    for name in KINDS:
        place(tree, name)
    for kind, name in (("scores", "loudness"), ("methods", "halves")):
        (tree / "tests" / kind / f"test_{name}.py").write_text(OWN_TEST.format(kind=kind, name=name), encoding="utf-8")
    assert len(touched(tree)) == len(KINDS) + 2
    walks, entries = walking(tree), [Path(name).stem for name in KINDS]
    assert {f"tests/{kind.contract}" for kind in KINDS.values()} <= set(walks)
    pytest_in(tree, *walks, "-k", " or ".join([*entries, "not ["]))
