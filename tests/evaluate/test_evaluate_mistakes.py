"""Every mistake in a call of `evaluate` ends in one sentence, before anything runs."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from deltaprune import DTP, UserError
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.evaluate import evaluate
from deltaprune.evaluate.work import Worker

UNCHECKED: Callable[..., Any] = inspect.unwrap(evaluate)  # without the tests' own checks of every annotation


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"vlm": None}, "A NoneType is not a model that can be evaluated: give what load returned"),
        ({"vlm": "bundled"}, "A str is not a model that can be evaluated"),
        ({"processor": lambda x: x}, "A function is not the model's processor: give what load returned"),
        ({"benchmark": "scens"}, "There is no benchmark 'scens': did you mean 'scenes'?"),
        ({"benchmark": "gqa"}, "gqa is given neither data nor hub"),
        ({"benchmark": Scenes}, "Scenes is a class: make a benchmark of it, Scenes(...)."),
        ({"benchmark": Image.new("RGB", (1, 1))}, "A Image is not a benchmark: give one, or a name (gqa, okvqa"),
        ({"methods": []}, 'No method is given: name at least one, such as "dtp:keep=0.5".'),
        ({"methods": DTP}, "DTP is a class: make a method of it, DTP(...)."),
        ({"methods": [DTP(), 0.5]}, "A float is not a method: give DTP(keep=0.5) or its text, 'dtp:keep=0.5'."),
        ({"methods": None}, "A NoneType is not a method"),
        ({"methods": ["dtp", "none", "dtp"]}, "The method 'dtp' is given twice: leave out one of them."),
        ({"methods": "dtp:kep=0.5"}, "Method 'dtp' has no field 'kep': did you mean 'keep'?"),
        ({"methods": ["dtp:early=9"]}, "lies beyond the model"),
        ({"split": "tset"}, "scenes has no split 'tset': did you mean 'test'?"),
        ({"seed": -1}, "seed=-1 is not a seed: it is a whole number from 0 up."),
        ({"seed": "0"}, "seed='0' is not a seed"),
        ({"limit": 0}, "limit=0 is not possible: it is a whole number from 1 up."),
        ({"limit": 2.5}, "limit=2.5 is not possible"),
        ({"batch_size": 0}, "batch_size=0 is not possible"),
        ({"max_new_tokens": 0}, "max_new_tokens=0 is not possible"),
        ({"engine": "rya"}, "There is no engine 'rya': did you mean 'ray'?"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_it_is_told(
    change: dict[str, Any], sentence: str, tiny: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("something ran")

    monkeypatch.setattr(Worker, "answer", never)
    call = {"vlm": tiny[0], "processor": tiny[1], "benchmark": "scenes", "methods": ["dtp"], "limit": 2, **change}
    with pytest.raises(UserError, match=re.escape(sentence)) as caught:
        UNCHECKED(**call)
    assert "\n" not in str(caught.value)


def test_both_in_one(tiny: tuple[Any, Any]) -> None:
    with pytest.raises(UserError, match="came as one value: give what load returned"):
        UNCHECKED(tiny, "scenes", ["dtp"], [])


def test_a_name_and_a_single_method_do(tiny: tuple[Any, Any], tmp_path: Any) -> None:
    (named,) = evaluate(*tiny, "scenes", "dtp:keep=0.5", limit=4, out=str(tmp_path))
    (made,) = evaluate(*tiny, Scenes(), [DTP(keep=0.5)], limit=4)
    assert (named.mean, named.by_skill, named.n) == (made.mean, made.by_skill, 4)
    assert (named.method, made.method) == ("dtp:keep=0.5", repr(DTP(keep=0.5)))
    assert (tmp_path / "answers.jsonl").exists()
