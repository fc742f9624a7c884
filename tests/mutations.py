"""Breaks the code on purpose, one place at a time, and says which test noticed: python tests/mutations.py [NAME...]

Each mutation replaces one text of one file in a copy of this tree and runs the test files that should notice. It is
killed when a test fails; a survivor, a file that cannot be imported and a text that is no longer there are errors. Not
collected by pytest; `test_mutations.py` holds that every text still occurs.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = ("src", "tests", "runs", "training", "numbers", "examples", "docs", "README.md", "pyproject.toml")


@dataclass(frozen=True)
class Mutation:
    """One fault.

    Attributes:
        name: what is broken, and how.
        file: from the root of the repository.
        old, new: the text that occurs once in the file, and what takes its place.
        tests: files or tests that should notice, fast ones.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def mutated(self, text: str) -> str:
        """The file's text with the fault in it.

        Raises:
            ValueError: `old` does not occur exactly once.
        """
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.old!r} occurs {text.count(self.old)} times in {self.file}, not once.")
        return text.replace(self.old, self.new)


SRC = "src/deltaprune"
MUTATIONS = (
    Mutation(
        "scan: the fast kernel reads a pair of rows out with the first one's C",
        f"{SRC}/kernels/_numba_scan.py",
        'shared("C", source[r], n)',
        'shared("C", source[0], n)',
        ("tests/kernels/test_selective_scan.py",),
    ),
    Mutation(
        "scan: the reference forgets D u",
        f"{SRC}/kernels/selective_scan/reference.py",
        "y = (h * C[t]).sum(-1) + D * u_t",
        "y = (h * C[t]).sum(-1)",
        ("tests/kernels/test_selective_scan.py",),
    ),
    Mutation(
        "select: survivors are left in the order of their scores",
        f"{SRC}/selection.py",
        "survivors = torch.sort(order[: count + n_text]).values",
        "survivors = order[: count + n_text]",
        ("tests/test_stages.py",),
    ),
    Mutation(
        "select: it waits for the device to count the text",
        f"{SRC}/selection.py",
        "n_text = end - start - live",
        "n_text = int((~visual).sum())",
        ("tests/test_waiting.py",),
    ),
    Mutation(
        "pass: a skipped layer's state sees the image",
        f"{SRC}/pruner.py",
        'if how in ("skip", "mean"):',
        'if how in ("mean",):',
        ("tests/test_pass.py",),
    ),
    Mutation(
        "pass: a layer writes over the rows that go on",
        f"{SRC}/pruner.py",
        "x = rows.x.clone()",
        "x = rows.x",
        ("tests/test_pass.py",),
    ),
    Mutation(
        "prompts: RoboMamba's lacks the blank before Answer",
        f"{SRC}/mllm/templates/robomamba.jinja",
        '{{- " Answer:" -}}',
        '{{- "Answer:" -}}',
        ("tests/models/test_prompts.py",),
    ),
    Mutation(
        "graders: two annotators are enough",
        f"{SRC}/benchmarks/graders/vqa_accuracy.py",
        "min(1.0, matches / 3)",
        "min(1.0, matches / 2)",
        ("tests/benchmarks/graders/test_vqa_accuracy.py",),
    ),
    Mutation(
        "graders: articles stay",
        f"{SRC}/benchmarks/graders/normalise.py",
        'ARTICLES = {"a", "an", "the"}',
        'ARTICLES = {"a", "an"}',
        ("tests/benchmarks/graders",),
    ),
    Mutation(
        "pixels: half as loud, seen by the unit test",
        f"{SRC}/vision/pixels.py",
        "return (pixels - mean) / std",
        "return (pixels - mean) / std / 2",
        ("tests/vision/test_pixels.py",),
    ),
    Mutation(
        "pixels: half as loud, seen in the bundled model's accuracy",
        f"{SRC}/vision/pixels.py",
        "return (pixels - mean) / std",
        "return (pixels - mean) / std / 2",
        ("tests/cli/test_commands.py::test_the_bundled_model_is_evaluated",),
    ),
    Mutation(
        "cost: B or C is not counted",
        f"{SRC}/blocks/sizes.py",
        "inner * (rank + 2 * states)",
        "inner * (rank + states)",
        ("tests/cost/test_macs.py",),
    ),
    Mutation(
        "cost: a copy reads, but does not write",
        f"{SRC}/cost/floors.py",
        "return 2 * COPIED * copies",
        "return COPIED * copies",
        ("tests/cost/test_floors.py",),
    ),
    Mutation(
        "store: an answer to another prompt is taken for this one's",
        f"{SRC}/evaluate/store.py",
        '"\\0".join([image_id, repr(decoding), prompt])',
        '"\\0".join([image_id, repr(decoding)])',
        ("tests/evaluate/test_store.py",),
    ),
    Mutation(
        "store: no lock",
        f"{SRC}/evaluate/store.py",
        "stack.enter_context(FileLock(self.folder / LOCK, thread_local=False).acquire(blocking=False))",
        "pass",
        ("tests/evaluate/test_store.py",),
    ),
    Mutation(
        "disk: files are synced through a handle that Windows refuses",
        f"{SRC}/disk.py",
        'file.open("r+b")',
        'file.open("rb")',
        ("tests/test_windows.py::test_a_run_and_its_continuation",),
    ),
    Mutation(
        "scores: Delta ranks the other way round",
        f"{SRC}/scores/delta.py",
        'return trace["step"]',
        'return -trace["step"]',
        ("tests/scores/test_against_loops.py",),
    ),
    Mutation(
        "scores: Stateful does not say that it sees the text",
        f"{SRC}/scores/stateful.py",
        "    sees_text = True",
        "    sees_text = False",
        ("tests/contract/test_scores.py::test_an_image_sees_the_text_if_and_only_if_it_says_so",),
    ),
    Mutation(
        "prefix: a damaged file is taken",
        f"{SRC}/prefix.py",
        'if about.pop("sha256", None) != sha256(tensors, about):',
        'if about.pop("sha256", None) is None:',
        ("tests/test_prefix.py",),
    ),
    Mutation(
        "merge: a group counts as two, however many it is",
        f"{SRC}/merge.py",
        "total = size[targets] + added",
        "total = size[targets] + (added > 0)",
        ("tests/test_merge.py",),
    ),
    Mutation(
        "statistics: Bonferroni for Holm",
        f"{SRC}/evaluate/statistics.py",
        "(len(p) - place) * p[i]",
        "len(p) * p[i]",
        ("tests/evaluate/test_statistics.py",),
    ),
    Mutation(
        "folder: every shard stays in memory",
        f"{SRC}/checkpoints/folder.py",
        "_write_shard(folder, file, gathered.pop(file))",
        "_write_shard(folder, file, gathered[file])",
        ("tests/models/test_conversion.py",),
    ),
    Mutation(
        "README: a block of Python lacks its import",
        "README.md",
        "from PIL import Image\n",
        "",
        ("tests/test_readme.py::test_its_python_runs_top_to_bottom",),
    ),
)


def pytest_in(tree: Path, tests: list[str]) -> subprocess.CompletedProcess[str]:
    """Run tests of a copy on the copy's own code, up to the first failure."""
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)


def verdict(ran: subprocess.CompletedProcess[str]) -> tuple[bool, str]:
    """Whether a test noticed, and which; anything but a failed test is no answer.

    Raises:
        RuntimeError: pytest could not run the tests, so that nothing is known.
    """
    failed = re.findall(r"^FAILED (.+?)(?: - .*)?$", ran.stdout, re.MULTILINE)
    if ran.returncode == 1 and failed:
        return True, failed[0]
    if ran.returncode == 0:
        return False, ""
    raise RuntimeError(f"pytest ended with {ran.returncode}:\n{ran.stdout[-3000:]}{ran.stderr[-3000:]}")


def main(names: list[str]) -> int:
    """Every mutation whose name contains one of `names`, or all; 1 if one survives."""
    chosen = [each for each in MUTATIONS if not names or any(name in each.name for name in names)]
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            (tree / part).parent.mkdir(parents=True, exist_ok=True)
            copy(ROOT / part, tree / part)
        if (whole := pytest_in(tree, list(dict.fromkeys(test for each in chosen for test in each.tests)))).returncode:
            raise RuntimeError(f"Tests fail before anything is broken:\n{whole.stdout[-3000:]}")
        for each in chosen:
            file = tree / each.file
            text = file.read_text(encoding="utf-8")
            file.write_text(each.mutated(text), encoding="utf-8", newline="\n")
            killed, by = verdict(pytest_in(tree, list(each.tests)))
            file.write_text(text, encoding="utf-8", newline="\n")
            survivors += not killed
            print(f"| {each.name} | {'killed' if killed else 'SURVIVED'} | {by} |", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
