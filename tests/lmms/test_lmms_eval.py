"""The plugin under the real lmms-eval, on ten questions of `scenes` in local files: its answers are `evaluate`'s.

lmms-eval wants an environment of its own (docs/guides/lmms_eval.md) with this library installed, for its entry point:

    DELTAPRUNE_LMMS_PYTHON=~/lmms/bin/python pytest -m slow tests/lmms
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import deltaprune
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.evaluate import evaluate

pytestmark = pytest.mark.slow
METHODS = ["none", "dtp:keep=0.5"]
N = 10

TASK = """
task: ten_scenes
dataset_path: json
dataset_kwargs:
  data_files:
    test: {folder}/questions.jsonl
test_split: test
output_type: generate_until
doc_to_visual: !function utils.picture
doc_to_text: question
doc_to_target: answer
process_results: !function utils.grade
generation_kwargs:
  max_new_tokens: 8
  do_sample: false
metric_list:
  - metric: accuracy
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1
"""

UTILS = """
from PIL import Image

def picture(doc):
    return [Image.open(doc["picture"])]

def grade(doc, results):
    return {"accuracy": float(results[0].lower() == doc["answer"].lower())}
"""

TWICE = """
import json, sys
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.models import get_model
from lmms_eval.tasks import TaskManager

model = get_model("deltaprune")
lm = model.create_from_arg_string("method=dtp:keep=0.5;early=plan", {"batch_size": 4, "device": "cpu"})
said = []
for _ in range(2):
    manager = TaskManager("WARNING", include_path=sys.argv[1], model_name="deltaprune")
    samples = simple_evaluate(lm, tasks=["ten_scenes"], task_manager=manager)["samples"]["ten_scenes"]
    said.append([sample["filtered_resps"][0] for sample in sorted(samples, key=lambda sample: sample["doc_id"])])
refused = []
for name in ("loglikelihood", "generate_until_multi_round"):
    try:
        getattr(lm, name)([])
    except NotImplementedError as error:
        refused.append(str(error))
print(json.dumps({"said": said, "refused": refused}))
"""


@pytest.fixture(scope="module")
def python():
    """An interpreter that has lmms-eval."""
    named = os.environ.get("DELTAPRUNE_LMMS_PYTHON")
    if named is None and importlib.util.find_spec("lmms_eval") is None:
        pytest.skip(
            "lmms-eval is not installed: make the environment of docs/guides/lmms_eval.md and name it, "
            "DELTAPRUNE_LMMS_PYTHON=~/lmms/bin/python pytest -m slow tests/lmms"
        )
    return named or sys.executable


@pytest.fixture(scope="module")
def samples():
    """Every other question first, so that a picture's questions do not stand together."""
    ten = list(Scenes().samples("test", 0, N))
    return ten[::2] + ten[1::2]


@pytest.fixture(scope="module")
def folder(samples, tmp_path_factory):
    """The task and its files."""
    folder = tmp_path_factory.mktemp("ten_scenes")
    lines = []
    for sample in samples:
        picture = folder / f"{sample.image_id}.png"
        sample.image.save(picture)
        lines.append({"picture": str(picture), "question": sample.question, "answer": sample.answer})
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "ten_scenes.yaml").write_text(TASK.format(folder=folder))
    (folder / "utils.py").write_text(UTILS)
    return folder


@pytest.fixture(scope="module")
def rows(samples):
    """`evaluate`'s own answers to the same questions."""
    found = evaluate(*deltaprune.load("bundled"), Scenes(), METHODS, limit=N)
    assert [r.prediction for r in found[0].records] != [r.prediction for r in found[1].records]
    return dict(zip(METHODS, found, strict=True))


def predictions(row, samples):
    said = {record.id: record.prediction for record in row.records}
    return [said[sample.id] for sample in samples]


def run(command, folder):
    """Offline, with this checkout's code."""
    src = Path(deltaprune.__file__).parents[1]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache"), "PYTHONPATH": str(src)}
    return subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("method", METHODS)
def test_the_command_gives_evaluates_answers(python, folder, samples, rows, method):
    out = folder / method.partition(":")[0]
    args = {
        "--model": "deltaprune",
        "--model_args": f"pretrained=bundled,method={method}",
        "--tasks": "ten_scenes",
        "--include_path": folder,
        "--batch_size": 4,
        "--device": "cpu",
        "--output_path": out,
    }
    command = [python, "-m", "lmms_eval", "--log_samples", *(str(word) for pair in args.items() for word in pair)]
    done = run(command, folder)
    assert "|ten_scenes|" in done.stdout, done.stdout + done.stderr
    (results,) = out.rglob("*_results.json")
    (logged,) = out.rglob("*_samples_ten_scenes.jsonl")
    lines = sorted(map(json.loads, logged.read_text().splitlines()), key=lambda line: line["doc_id"])
    assert [line["filtered_resps"] for line in lines] == predictions(rows[method], samples)
    accuracy = json.loads(results.read_text())["results"]["ten_scenes"]["accuracy,none"]
    assert accuracy == pytest.approx(sum(record.correct for record in rows[method].records) / N)


def test_an_object_serves_again_after_clean(python, folder, samples, rows):
    done = run([python, "-c", TWICE, str(folder)], folder)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["said"] == [predictions(rows["dtp:keep=0.5"], samples)] * 2
    assert [sentence.split(" ")[0] for sentence in told["refused"]] == ["deltaprune", "deltaprune"]
    assert len(told["refused"]) == 2


def test_a_mistake_in_model_args_is_told(python, folder):
    code = 'from lmms_eval.models import get_model; get_model("deltaprune").create_from_arg_string("metod=dtp")'
    done = run([python, "-c", code], folder)
    assert done.returncode != 0
    assert "UserError: model_args has no 'metod': did you mean 'method'?" in done.stderr
