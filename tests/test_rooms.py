"""Lower rooms never import upper ones; read from the code, not from habit. See CONTRIBUTING.md for the picture."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "deltaprune"
FLOORS: list[set[str]] = [
    {"errors", "registry", "checks", "disk", "plugins", "similarity", "tensors", "timing", "mean_states", "overlay"},
    {"active", "rows", "trace", "plan", "steps", "choosing", "selection", "scoring", "merge", "counting"},
    {"kernels"},
    {"scores", "methods"},
    {"protocols", "walk", "blocks", "vision"},
    {"mllm", "checkpoints", "models", "cuda_graphs", "fingerprint"},
    {
        "pruner",
        "readers",
        "inplace",
        "prefill",
        "prefix",
        "generate",
        "answer",
        "packing",
        "switching",
        "vlm",
        "hosted",
        "load",
    },
    {"calibrate", "analysis", "cost"},
    {"benchmarks"},
    {"ask", "evaluate", "hf", "lmms_eval", "serve", "studio", "cli", "__init__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MODELS = ("blocks", "vision", "mllm", "checkpoints", "models", "cuda_graphs")
STRANGERS = {  # neither sees the other, whatever their floors say
    *((pruning, model) for pruning in ("scores", "methods") for model in MODELS),
    ("methods", "kernels"),
    ("benchmarks", "models"),
    ("benchmarks", "methods"),
}
FILES = sorted(SRC.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Every `deltaprune.<room>` that a file imports, also inside functions; types only (`TYPE_CHECKING`) included."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which room is meant"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("deltaprune.")}
    return rooms & FLOOR.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_imports_go_down(path: Path) -> None:
    here = room(path)
    assert here in FLOOR, f"{here} stands on no floor: add it to FLOORS."
    for there in imported_rooms(path) - {here}:
        assert FLOOR[there] <= FLOOR[here], (
            f"{path}: {here} (floor {FLOOR[here]}) imports {there} (floor {FLOOR[there]})"
        )
        assert (here, there) not in STRANGERS, f"{path}: {here} must not know {there}"


def test_scores_and_layers_never_meet() -> None:
    for path in FILES:
        if room(path) in ("blocks", "vision", "kernels"):
            assert not imported_rooms(path) & {"scores", "methods", "steps", "pruner"}, (
                f"{path}: models know no pruning"
            )


def test_benchmarks_need_no_torch() -> None:
    for path in FILES:
        if room(path) == "benchmarks":
            assert "torch" not in path.read_text(), f"{path}: benchmarks run on the standard library, PIL and numpy"
