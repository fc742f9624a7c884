"""What every method promises: each entry of the registry x each property."""

from dataclasses import fields, is_dataclass

import pytest

from deltaprune.methods import parse, registry
from deltaprune.stages import Method, Plan, Shape, check_order

COBRA = Shape(n_layers=64, n_visual=729, plan=Plan(early=15, late=45))


@pytest.fixture(params=registry.names())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_is_a_frozen_dataclass_whose_repr_is_its_identity(name: str) -> None:
    method = parse(name)
    assert is_dataclass(method)
    assert type(method).__dataclass_params__.frozen
    assert " at 0x" not in repr(method)
    assert repr(method) == repr(parse(name))
    assert hash(method) == hash(parse(name))
    assert method == parse(name)
    assert type(method).__doc__


def test_its_stages_fit_the_papers_model(name: str) -> None:
    stages = parse(name).stages(COBRA)
    check_order(stages, COBRA.n_layers)
    assert all(0 <= stage.keep <= 1 for stage in stages)


def test_keep_changes_the_stages(name: str) -> None:
    if "keep" not in {f.name for f in fields(registry[name])}:
        pytest.skip(f"{name} has no share to keep")
    assert parse(f"{name}:keep=0.25").stages(COBRA) != parse(f"{name}:keep=0.75").stages(COBRA)


class Holder:
    """The least that a method can be switched on for."""

    shape = COBRA

    def __init__(self) -> None:
        self.method: Method | None = None


def test_switches_on_and_off_also_after_an_exception(name: str) -> None:
    holder, method = Holder(), parse(name)
    with method(holder):
        assert holder.method is method
    assert holder.method is None
    with pytest.raises(KeyError), method(holder):
        raise KeyError
    assert holder.method is None


def test_does_not_nest(name: str) -> None:
    holder, method = Holder(), parse(name)
    with method(holder), pytest.raises(ValueError, match="do not nest"), method(holder):
        pass
    assert holder.method is None
