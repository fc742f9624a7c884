"""Numbers in a method's text that would fill the memory: a server reads such texts from strangers."""

import tracemalloc

import pytest

import deltaprune as dp
from deltaprune.benchmarks.scenes import Scene
from deltaprune.methods import parse
from deltaprune.mllm.processor import Processor
from deltaprune.plan import Plan, Shape
from deltaprune.steps import stages_of

SHAPE = Shape(n_layers=20, n_visual=256, plan=Plan(5, 15))
MIB = 2**20
TEXTS = (
    "chosen:drop=0-3000000",
    "chosen:drop=" + "+".join(["0-30000"] * 100),
    "chosen:drop=0+" + "9" * 5000,
    "freeze:write=0-3000000",
    "shortv:layers=1-3000000",
    "pyramid:drops=300000",
    "utrc:until=3000000,every=1",
    "tome:until=3000000,every=1",
    f"alignment:early={10**25},until={10**26},every=1",
    f"stateful:until={10**26}",
    f"scope:alpha={10**400}",
)


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:32])
def test_they_end_in_a_sentence_at_once(text: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(dp.UserError):
            parse(text).checked_steps(SHAPE)
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()


def test_a_step_that_is_not_reached_is_no_mistake() -> None:
    """Of a schedule only its layers have to be within the model, not its end."""
    steps = parse("utrc:early=3,until=80,every=80").checked_steps(SHAPE)
    assert [stage.after for stage in stages_of(steps)] == [3]
    assert parse(f"freeze:write=0-{SHAPE.n_layers - 1}").checked_steps(SHAPE)


@pytest.mark.parametrize("field", ["vcola:temperature", "scope:alpha"])
def test_a_whole_number_beyond_64_bits(field: str, tiny: tuple[dp.VLM, Processor]) -> None:
    model, processor = tiny
    inputs = processor(images=Scene.from_seed(0).image, text="What?")
    assert model.generate(**inputs, method=f"{field}={10**30}", max_new_tokens=1).shape == (1, 1)
