"""A method around something that is no model ends in one sentence, which says what it can be put around."""

from typing import Any, cast

import pytest
import torch
from torch import nn

import deltaprune as dp
from deltaprune.mllm.processor import Processor
from deltaprune.steps import Prunable

pytestmark = pytest.mark.usefixtures("unchecked")
ACCEPTED = "it prunes a model that dp.load gave, or that transformers loaded"


class Holding(nn.Module):
    """As a pipeline or a wrapper that holds a model."""

    def __init__(self, **held: object):
        super().__init__()
        for name, value in held.items():
            object.__setattr__(self, name, value)


def refused(obj: Any) -> str:
    with pytest.raises(dp.UserError) as error, dp.DTP()(obj):
        pytest.fail("it was taken")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "obj", [nn.Linear(2, 2), Holding(model=nn.Linear(2, 2)), torch.zeros(2), "bundled", None, dp.DTP(), {"model": 1}]
)
def test_anything_else_is_told_what_is_accepted(obj: Any) -> None:
    said = refused(obj)
    assert said.startswith(f"DTP was given an object of type {type(obj).__name__}: {ACCEPTED}")
    assert "of a pipeline over one, its .model" in said


def test_what_holds_a_model_is_told_where(tiny: tuple[dp.VLM, Processor]) -> None:
    said = refused(Holding(model=tiny[0]))
    assert said == (
        "DTP was given an object of type Holding, which holds the model that can be pruned: give it as its attribute "
        ".model."
    )
    assert ".vlm." in refused(Holding(vlm=tiny[0]))
    assert tiny[0].method is None


def test_the_parts_of_a_model_are_no_model(tiny: tuple[dp.VLM, Processor]) -> None:
    for part in (tiny[0].model, tiny[0].model.lm, tiny[1]):
        assert ACCEPTED in refused(part)


def test_what_load_gave_as_a_whole(tiny: tuple[dp.VLM, Processor]) -> None:
    assert "model, processor = dp.load(...)" in refused(tiny)


def test_the_class_is_no_model() -> None:
    assert refused(dp.VLM).startswith("DTP was given the class VLM: it prunes")
    assert isinstance(dp.VLM, Prunable)  # it has the attributes, so that alone does not tell


def test_a_method_made_of_the_model() -> None:
    class Model:
        def generate(self) -> None: ...

    model: Any = Model()
    with pytest.raises(dp.UserError, match=r"keep= was given a model: make the method first"):
        dp.DTP(model)


@pytest.mark.parametrize("source", [None, 3, ("bundled",)])
def test_load_of_what_is_no_name(source: Any) -> None:
    with pytest.raises(dp.UserError, match=f"load was given an object of type {type(source).__name__}"):
        dp.load(source)


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'DTPP'") as error:
        _ = dp.DTPP  # pyright: ignore[reportAttributeAccessIssue]
    assert (error.value.name, error.value.obj) == ("DTPP", dp)  # from which Python makes "Did you mean: 'DTP'?"


def test_one_argument_in_the_place_of_another(tiny: tuple[dp.VLM, Processor]) -> None:
    vlm, processor = tiny
    inputs, value = processor(text="What?"), cast(Any, "dtp")
    with pytest.raises(dp.UserError, match=r"use_plan takes a Plan: dp.load_plan"):
        vlm.use_plan(value)
    with pytest.raises(dp.UserError, match=r"prefix='dtp' is not an ImagePrefix: .* method= prunes"):
        vlm.start(inputs, value)
    with pytest.raises(dp.UserError, match=r"no input 'max_tokens': did you mean 'max_new_tokens'?"):
        vlm.generate(**inputs, max_tokens=3)
    with pytest.raises(dp.UserError, match="The device 'nowhere' cannot be used"):
        vlm.to("nowhere")
