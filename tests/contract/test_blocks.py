"""What every block promises, whoever wrote it: each entry of the registry x each property."""

from pathlib import Path

import pytest
import torch
from stacks import Stack
from torch import Tensor

from deltaprune.blocks import blocks, registry
from deltaprune.prefill import Prefilled, prefill
from deltaprune.prefix import ImagePrefix
from deltaprune.protocols import Block, Model, State
from deltaprune.rows import Rows
from deltaprune.scores.delta import Delta
from deltaprune.scores.random import Random
from deltaprune.steps import Pass, Stage
from deltaprune.trace import ROLES, Trace
from deltaprune.walk import decode

WIDTH = 32
SAMPLES = ["vvvvvvvttt", "ttt", "tvvvttvvt", "vvvv", "tv"]  # v: a visual row, t: a text row
IMAGES_FIRST = ((7, 3), (5, 1), (1, 4))  # visual rows, text rows
NONE: frozenset[str] = frozenset()


def random_block(name: str, seed: int = 0) -> Block:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return blocks[name](WIDTH)


@pytest.fixture(params=blocks.names())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def block(name: str) -> Block:
    return random_block(name)


def drawn(seed: int, rows: int) -> Tensor:
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed))


def packed(*samples: str, seed: int = 0) -> Rows:
    """Sample b's rows depend on b and its length only."""
    x = [drawn(seed + b, len(kinds)) for b, kinds in enumerate(samples)]
    return Rows.mixed(x, [torch.tensor([kind == "v" for kind in kinds], dtype=torch.bool) for kinds in samples])


def alone(rows: Rows, b: int, start: int = 0, end: int | None = None) -> Rows:
    """Rows `start` to `end` of sample b."""
    first, last = rows.spans[b]
    index = slice(first + start, last if end is None else first + end)
    return Rows.mixed([rows.x[index]], [rows.visual[index]])


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def same_state(ours: State, theirs: State) -> None:
    assert type(ours) is type(theirs)
    assert ours.tensors().keys() == theirs.tensors().keys()
    for role, tensor in ours.tensors().items():
        close(tensor, theirs.tensors()[role])


def test_is_a_block_whose_state_is_known_by_its_kind(block: Block) -> None:
    assert isinstance(block, Block)
    state = block.empty_state(2)
    assert registry[state.kind] is type(state)
    assert type(block).__doc__
    assert all(len(tensor) == 2 for tensor in state.tensors().values())


def test_offers_known_roles(block: Block) -> None:
    assert block.offers <= ROLES - {"hidden"}  # the residual stream is not the block's to report
    assert block.offers_writing <= block.offers


def test_a_row_depends_on_all_earlier_rows_and_on_no_later_one(block: Block) -> None:
    rows = packed("tttttt")
    changed = rows.with_x(rows.x.index_fill(0, torch.tensor([2]), 3.0))
    moved = (block.prefill(rows, None, NONE)[0].x - block.prefill(changed, None, NONE)[0].x).abs().amax(-1)
    assert (moved[:2] == 0).all()
    assert (moved[2:] > 0).all()


def test_a_packed_batch_equals_the_loop(block: Block) -> None:
    rows = packed(*SAMPLES)
    done, state, trace = block.prefill(rows, None, block.offers)
    for b, (start, end) in enumerate(rows.spans):
        out, single, told = block.prefill(alone(rows, b), None, block.offers)
        close(done.x[start:end], out.x)
        same_state(state.take(torch.tensor([b])), single)
        for role, value in told.rows.items():
            close(trace.rows[role][start:end], value)


def test_an_empty_sample_changes_nothing(block: Block) -> None:
    """A sample of which pruning left no row keeps its state, and the others do not notice it."""
    rows = packed("vt", "ttt", "v")
    _, state, _ = block.prefill(rows, None, NONE)
    more = packed("tt", "", "t", seed=9)
    _, after, _ = block.prefill(more, state, NONE)
    same_state(after.take(torch.tensor([1])), state.take(torch.tensor([1])))
    _, third, _ = block.prefill(alone(more, 2), state.take(torch.tensor([2])), NONE)
    same_state(after.take(torch.tensor([2])), third)


@pytest.mark.parametrize("at", [0, 1, 4, 8, 9])
def test_a_split_prefill_equals_the_whole(block: Block, at: int) -> None:
    rows = packed(SAMPLES[2])
    whole, end, _ = block.prefill(rows, None, NONE)
    first, state, _ = block.prefill(alone(rows, 0, 0, at), None, NONE)
    second, state, _ = block.prefill(alone(rows, 0, at), state, NONE)
    close(torch.cat([first.x, second.x]), whole.x)
    same_state(state, end)


def test_no_state_is_the_empty_state(block: Block) -> None:
    rows = packed(*SAMPLES)
    given, state, _ = block.prefill(rows, block.empty_state(len(SAMPLES)), NONE)
    none, other, _ = block.prefill(rows, None, NONE)
    close(given.x, none.x)
    same_state(state, other)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_step_equals_a_prefill_of_one_row(block: Block, in_place: bool) -> None:
    _, state, _ = block.prefill(packed(*SAMPLES), None, NONE)
    before = {role: tensor.clone() for role, tensor in state.tensors().items()}
    next_rows = packed(*"t" * len(SAMPLES), seed=20)
    expected, after, _ = block.prefill(next_rows, state, NONE)
    given = type(state)(**{role: tensor.clone() for role, tensor in before.items()})
    x, stepped = block.step(next_rows.x, given, in_place)
    close(x, expected.x)
    same_state(stepped, after)
    unchanged = [state] if in_place else [state, given]
    assert all(torch.equal(each.tensors()[role], tensor) for each in unchanged for role, tensor in before.items())


def test_write_changes_no_visual_row_and_gives_the_state_of_a_prefill(block: Block) -> None:
    """In one layer all else is as in a prefill: which rows write the state, and what the text rows become."""
    rows = packed(*SAMPLES)
    written, state, _ = block.write(rows, None, NONE)
    ran, expected, _ = block.prefill(rows, None, NONE)
    assert torch.equal(written.x[rows.visual], rows.x[rows.visual])
    assert not torch.equal(ran.x[rows.visual], rows.x[rows.visual])
    close(written.x[~rows.visual], ran.x[~rows.visual])
    same_state(state, expected)
    assert written.lengths == rows.lengths


def test_write_goes_on_from_a_state(block: Block) -> None:
    _, state, _ = block.prefill(packed("tt", "vvv"), None, NONE)
    more = packed("vtv", "vt", seed=30)
    written, after, _ = block.write(more, state, NONE)
    ran, expected, _ = block.prefill(more, state, NONE)
    close(written.x[~more.visual], ran.x[~more.visual])
    same_state(after, expected)


@pytest.mark.parametrize("how", ["prefill", "write"])
def test_offers_are_told_when_asked_for_and_only_then(block: Block, how: str) -> None:
    rows = packed(*SAMPLES)
    run, offers = (block.prefill, block.offers) if how == "prefill" else (block.write, block.offers_writing)
    full, together = block.prefill(rows, None, block.offers)[2], run(rows, None, offers)[2]
    for role in offers:
        _, _, told = run(rows, None, frozenset({role}))
        assert told.rows.keys() | told.layer.keys() == {role}
        assert told[role].isfinite().all()
        close(told[role], together[role])
        close(told[role], full[role])
    assert all(len(value) == len(rows.x) for value in together.rows.values())
    assert run(rows, None, NONE)[2] == Trace()


def test_states_are_taken_by_sample(block: Block) -> None:
    _, state, _ = block.prefill(packed(*SAMPLES), None, NONE)
    index = torch.tensor([3, 0, 0])
    taken = state.take(index)
    assert all(torch.equal(taken.tensors()[role], tensor[index]) for role, tensor in state.tensors().items())
    more = packed("tt", "tt", "tt", seed=40)
    _, together, _ = block.prefill(more, taken, NONE)
    for b, source in enumerate(index.tolist()):
        _, single, _ = block.prefill(alone(more, b), state.take(torch.tensor([source])), NONE)
        same_state(together.take(torch.tensor([b])), single)


def test_a_state_is_made_again_from_its_tensors(block: Block) -> None:
    _, state, _ = block.prefill(packed(*SAMPLES), None, NONE)
    again = registry[state.kind](**state.tensors())
    assert type(again) is type(state)
    assert all(torch.equal(again.tensors()[role], tensor) for role, tensor in state.tensors().items())


def test_what_it_costs(block: Block) -> None:
    """A row takes part in every matrix product; a row that only writes the state costs less."""
    full, write = block.macs(), block.macs("write")
    assert all(cost >= 0 for cost in (*full.values(), *write.values()))
    assert sum(full.values()) >= sum(weight.numel() for weight in block.products()) > 0
    assert sum(write.values()) >= sum(weight.numel() for weight in block.products("write")) > 0
    assert 0 < sum(write.values()) < sum(full.values())


def stack(name: str, hybrid: bool = False) -> Model:
    """Four layers of this kind, or this kind and Mamba-1 in turn."""
    kinds = [name, "mamba1"] * 2 if hybrid else [name] * 4
    return Stack([random_block(kind, seed) for seed, kind in enumerate(kinds)], WIDTH)


def questions(image: bool = True, text: bool = True) -> Rows:
    return Rows.pack(
        [drawn(50 + b, image * v) for b, (v, _) in enumerate(IMAGES_FIRST)],
        [drawn(60 + b, text * t) for b, (_, t) in enumerate(IMAGES_FIRST)],
        torch.tensor([7, 8, 9]),
    )


def same(ours: Prefilled, theirs: Prefilled) -> None:
    close(ours.hidden, theirs.hidden)
    assert len(ours.kept) == len(theirs.kept)
    for kept, other in zip(ours.kept, theirs.kept, strict=True):
        assert [origin.tolist() for origin in kept.origin] == [origin.tolist() for origin in other.origin]
    for state, other in zip(ours.states, theirs.states, strict=True):
        same_state(state, other)


STEPS = {
    "stages": (Stage(2, 0.5, Random()), Stage(3, 0.0)),
    "passes": (Pass((1,), "write"), Pass((2,), "skip")),
}


def test_its_step_sizes_rank_rows(name: str) -> None:
    """`step` is one number per row, whatever the mixer: the scores that read it work on every model."""
    if "step" not in random_block(name).offers:
        pytest.skip(f"{name} tells no step sizes")
    model = stack(name)
    done = prefill(model, questions(), (Stage(2, 0.5, Delta()),))
    (kept,) = done.kept
    assert kept.counts == tuple(v // 2 for v, _ in IMAGES_FIRST)
    rows, told = questions(), Trace()
    for block in model.blocks[:2]:
        rows, _, told = block.prefill(rows, None, frozenset({"step"}))
    assert told["step"].shape == (len(rows.x),)
    for (start, _), (v, _), origin in zip(rows.spans, IMAGES_FIRST, kept.origin, strict=True):
        best = told["step"][start : start + v].topk(v // 2).indices
        assert origin.tolist() == sorted(best.tolist())


@pytest.mark.parametrize("hybrid", [False, True], ids=["alone", "with mamba1"])
@pytest.mark.parametrize("steps", STEPS)
def test_an_lm_of_it_is_pruned_and_decodes(name: str, steps: str, hybrid: bool, tmp_path: Path) -> None:
    """Image and question together equal the image first, from a file, and then the question; so does one more token."""
    model = stack(name, hybrid)
    assert isinstance(model, Model)
    whole = prefill(model, questions(), STEPS[steps])
    image = prefill(model, questions(text=False), STEPS[steps], awaits_text=True)
    ImagePrefix(image, "model", "method").save(tmp_path / "image")
    image = ImagePrefix.load(tmp_path / "image").prefilled
    same(prefill(model, questions(image=False), STEPS[steps], image), whole)
    ids = model.logits(whole.hidden).argmax(-1)
    logits, _ = decode(model, ids, whole.states)
    text = prefill(model, Rows.pack([drawn(0, 0)] * len(ids), list(model.embed(ids)[:, None])), (), whole)
    close(logits, model.logits(text.hidden))
