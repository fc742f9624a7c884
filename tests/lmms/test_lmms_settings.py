"""The lmms-eval plugin's model_args and what it registers; nothing here needs lmms-eval."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from deltaprune import DTP, UserError
from deltaprune.lmms_eval import manifest
from deltaprune.lmms_eval.settings import Settings, choose_device, join, read_settings
from deltaprune.methods import parse


def test_nothing_given_is_the_bundled_model_unpruned():
    assert read_settings({}) == Settings(pretrained="bundled", method="none", batch_size=1)


def test_values_as_lmms_eval_reads_them():
    given = {"pretrained": 2024, "method": "dtp:keep=0.5;early=3", "batch_size": "8", "towers": "t", "tokenizer": "k"}
    more = {"dtype": "bfloat16", "device": "cuda:1", "plan": None}
    assert read_settings(given | more) == Settings(
        "2024", "dtp:keep=0.5;early=3", "t", "k", "bfloat16", "cuda:1", batch_size=8
    )
    assert parse("dtp:keep=0.5;early=3") == DTP(keep=0.5, early=3)


@pytest.mark.parametrize(
    ("model_args", "sentence"),
    [
        ({"metod": "dtp"}, r"^model_args has no 'metod': did you mean 'method'\? \(the known ones are .*\)\.$"),
        ({"max_batch_size": 8}, "^model_args has no 'max_batch_size': did you mean 'batch_size'"),
        (
            {"method": "dtp:keep=0.5", "early": 3},
            "^model_args has 'early=3' on its own: a method's fields are joined by ';', method=dtp:...;early=3.$",
        ),
        ({"method": "dpt:keep=0.5"}, "^There is no method 'dpt': did you mean 'dtp'"),
        ({"method": "dtp:keep=2"}, "^keep=2 is not a share"),
        ({"dtype": "half"}, "^There is no dtype='half': "),
        ({"batch_size": "auto"}, "^batch_size='auto' is not possible: it is a whole number from 1 up.$"),
        ({"batch_size": 0}, "^batch_size=0 is not possible"),
        ({"batch_size": 1.5}, "^batch_size='1.5' is not possible"),
    ],
)
def test_mistakes_are_one_sentence(model_args, sentence):
    with pytest.raises(UserError, match=sentence):
        read_settings(model_args)


def test_the_default_batch_size_of_the_command_line_gives_way():
    assert join({"batch_size": 8}, {"batch_size": 1, "device": None, "max_batch_size": None}) == {"batch_size": 8}
    assert join({"method": "dtp"}, {"batch_size": "4", "device": "cpu"}) == {
        "method": "dtp",
        "batch_size": "4",
        "device": "cpu",
    }
    assert join({"batch_size": 4}, {"batch_size": "4"}) == {"batch_size": "4"}


def test_saying_two_things_is_a_mistake():
    with pytest.raises(UserError, match=r"^--batch_size 4 and model_args batch_size=8 differ: give one of them.$"):
        join({"batch_size": 8}, {"batch_size": "4"})
    with pytest.raises(UserError, match=r"^--device cpu and model_args device=cuda differ"):
        join({"device": "cuda"}, {"device": "cpu"})


@pytest.mark.parametrize(("there", "default"), [(False, "cpu"), (True, "cuda")])
def test_the_device_is_a_gpu_where_there_is_one(monkeypatch, there, default):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert choose_device(None) == torch.device(default)
    assert choose_device("cpu", 2, 1) == torch.device("cpu")


def test_each_process_has_its_own_gpu():
    assert choose_device("cuda", 2, 1) == torch.device("cuda:1")
    assert choose_device("cuda:3") == torch.device("cuda:3")
    with pytest.raises(UserError, match=r"^2 processes cannot share cuda:0: write device=cuda"):
        choose_device("cuda:0", 2, 1)
    with pytest.raises(UserError, match=r"^There is no device 'gpu': it is cpu, cuda or cuda:N.$"):
        choose_device("gpu")


def test_the_manifest_names_a_class_that_is_there(monkeypatch):
    registry = SimpleNamespace(ModelManifest=lambda name, chat_class_path: (name, chat_class_path))
    monkeypatch.setitem(sys.modules, "lmms_eval", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "lmms_eval.models", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "lmms_eval.models.registry_v2", registry)
    name, path = manifest()
    module, _, cls = path.rpartition(".")
    spec = importlib.util.find_spec(module)
    assert name == "deltaprune"
    assert spec is not None
    assert spec.origin is not None
    defined = [node.name for node in ast.parse(Path(spec.origin).read_text()).body if isinstance(node, ast.ClassDef)]
    assert cls in defined


def test_registering_imports_no_torch():
    code = "import sys, deltaprune.lmms_eval; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
