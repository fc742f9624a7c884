"""ShortV: which layers are frozen, what freezing does, and its criterion against really freezing each layer."""

import math
from dataclasses import replace

import pytest
import torch
from prefills import drawn, small

import deltaprune as dp
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.calibrate import contribution, load_plan, save_plan
from deltaprune.cost import macs
from deltaprune.errors import UserError
from deltaprune.methods import parse
from deltaprune.methods.shortv import ShortV
from deltaprune.mllm.processor import Processor
from deltaprune.models.cobra import COBRA
from deltaprune.prefill import prefill
from deltaprune.steps import Pass, Plan, Shape

LC = (4.0, 0.3, 0.1, 0.2, 0.3, 0.0, 0.3, 9.0)
MEASURED = Shape(8, 21, Plan(2, 6, found={"shortv": LC}))


def frozen(method: ShortV, shape: Shape = MEASURED) -> list[int]:
    return [l for step in method.checked_steps(shape) for l in step.layers]  # pyright: ignore[reportAttributeAccessIssue]


def test_the_layers_of_least_contribution_are_frozen() -> None:
    """Layers 5, 2, 3 come first; of 1, 4 and 6, which are equal, the deeper."""
    assert [frozen(ShortV(k / 8)) for k in range(9)] == [
        [],
        [5],
        [2, 5],
        [2, 3, 5],
        [2, 3, 5, 6],
        [2, 3, 4, 5, 6],
        [1, 2, 3, 4, 5, 6],
        [0, 1, 2, 3, 4, 5, 6],
        [0, 1, 2, 3, 4, 5, 6, 7],
    ]
    assert ShortV(0.5).steps(MEASURED) == (Pass((2, 3, 5, 6), "write"),)


@pytest.mark.parametrize(("n_layers", "count"), [(32, 19), (40, 24), (64, 38)])
def test_its_own_share_and_without_a_plan_the_deepest(n_layers: int, count: int) -> None:
    """19 of 32 and 24 of 40 are the layers that its authors freeze in LLaVA-1.5 7B and 13B."""
    assert frozen(ShortV(), Shape(n_layers, 9)) == list(range(n_layers - count, n_layers))


@pytest.mark.parametrize("text", ["0+3-5", "5+4+3+0+0", " 0 + 3 - 5 "])
def test_layers_by_name(text: str) -> None:
    assert parse(f"shortv:layers={text}") == ShortV(layers=(0, 3, 4, 5)) == ShortV(layers=[5, 4, 3, 0, 3])
    assert frozen(parse(f"shortv:layers={text}")) == [0, 3, 4, 5]  # pyright: ignore[reportArgumentType]
    assert parse("shortv:share=0.25,layers=7") == ShortV(0.25, (7,))


@pytest.mark.parametrize("layers", ["", "a", "3-1", "1,2", "-1", [1.0], (True,), -2, "1++2"])
@pytest.mark.usefixtures("unchecked")
def test_layers_that_are_none(layers: object) -> None:
    with pytest.raises(
        UserError, match=r"^layers=.* must be a list of layers counted from 0, such as \(1, 2, 3\) or '1-3\+7'"
    ):
        ShortV(layers=layers)  # pyright: ignore[reportArgumentType]


def test_other_mistakes() -> None:
    with pytest.raises(UserError, match="There is no layer 8 for a pass"):
        ShortV(layers=(8,)).checked_steps(MEASURED)
    with pytest.raises(UserError, match="The plan has 8 numbers for shortv and the model 9 layers: calibrate again"):
        ShortV().steps(Shape(9, 21, MEASURED.plan))
    with pytest.raises(UserError, match=r"share=1.5 is not a share"):
        ShortV(1.5)


def test_a_frozen_row_stays_and_writes_the_state() -> None:
    """Layer by layer: text runs as ever on the state that the unchanged image rows have written."""
    torch.manual_seed(3)
    lm, rows = small(), drawn()
    done = prefill(lm, rows, ShortV(layers=(0, 2)).checked_steps(Shape(4, 9)))
    flow, text = rows, torch.cat([rows.text_rows(b) for b in range(2)])
    for l, block in enumerate(lm.blocks):
        after, state, _ = block.prefill(flow)
        if l in (0, 2):
            after = flow.with_x(flow.x.index_copy(0, text, after.x[text]))
        for name, tensor in state.tensors().items():
            torch.testing.assert_close(done.states[l].tensors()[name], tensor, atol=1e-5, rtol=1e-5)
        flow = after
    torch.testing.assert_close(done.tokens.x, flow.x, atol=1e-5, rtol=1e-5)


def test_what_it_costs() -> None:
    full, write = (sum(COBRA.lm.macs(how).values()) for how in ("full", "write"))
    expected = (64 * 22 + 26 * 729 + 38 * 729 * write / full) / (64 * (22 + 729))
    assert macs(COBRA, ShortV(), 22).share == pytest.approx(expected)


@pytest.fixture(scope="module")
def batches(tiny: tuple[dp.VLM, Processor]) -> list:
    _, processor = tiny
    pictures = [next(iter(Scenes().samples("val", seed, 1))).image for seed in range(3)]
    return [processor(images=pictures[:2], text=["a?", "How many?"]), processor(images=pictures[2], text="And this?")]


def test_its_criterion_is_the_divergence_from_really_freezing(tiny: tuple[dp.VLM, Processor], batches: list) -> None:
    vlm, _ = tiny
    expected = []
    for l in range(4):
        moved = []
        for inputs in batches:
            unpruned = vlm.next_logits(vlm.start(inputs)).double().log_softmax(-1).tolist()
            alone = vlm.next_logits(vlm.start(inputs, method=ShortV(layers=l))).double().log_softmax(-1).tolist()
            for p, q in zip(unpruned, alone, strict=True):
                moved.append(sum(math.exp(a) * (a - b) for a, b in zip(p, q, strict=True)))
        expected.append(sum(moved) / len(moved))
    measured = contribution(vlm, batches)
    assert min(expected[:3]) > 1e-7  # freezing matters, so agreement says something
    assert measured == pytest.approx(expected, rel=1e-3, abs=1e-9)
    assert measured[3] == pytest.approx(0, abs=1e-9)  # behind the last layer nobody reads the image
    with dp.Downscale(0.3)(vlm):
        assert contribution(vlm, batches) == pytest.approx(measured)


def test_there_is_something_to_measure_on(tiny: tuple[dp.VLM, Processor]) -> None:
    with pytest.raises(UserError, match="nothing to calibrate on"):
        contribution(tiny[0], [])


def test_a_plan_carries_what_was_found(tiny: tuple[dp.VLM, Processor], tmp_path) -> None:
    vlm, _ = tiny
    held = vlm.config.plan
    assert held is not None
    plan, file, before = (
        replace(held, found={"shortv": [0.5, 0.25, 0.125, 0.0]}),
        tmp_path / "plan.json",
        vlm.fingerprint,
    )
    save_plan(plan, vlm.config, file)
    assert load_plan(file, vlm.config) == plan
    try:
        vlm.use_plan(load_plan(file, vlm.config))
        assert ShortV(0.5).steps(vlm.shape) == (Pass((2, 3), "write"),)
        assert vlm.fingerprint != before  # another plan, other states in a prefix
    finally:
        vlm.use_plan(held)
    assert vlm.fingerprint == before
    for found in ("[]", '{"shortv": [1, 2]}', '{"shortv": [1, 2, 3, NaN]}', '{"shortv": 3}'):
        file.write_text(file.read_text().partition('"found"')[0] + f'"found": {found}, "source": {{}}}}')
        with pytest.raises(UserError, match="has a 'found' that is not 4 numbers for each method"):
            load_plan(file, vlm.config)
