"""The loop: one pass = parts = steps; a batch = a loop; pruning keeps what it says it keeps."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.errors import UserError
from deltaprune.kernels.matmul import numba as fast
from deltaprune.methods.dtp import DTP
from deltaprune.methods.random import RandomPruning
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import NonFiniteScore, Prefilled, prefill
from deltaprune.rows import Rows
from deltaprune.scores.delta import Delta
from deltaprune.scores.random import Random
from deltaprune.steps import Shape, Stage

LAYERS, WIDTH = 6, 32
SHAPE = Shape(n_layers=LAYERS, n_visual=20)


@pytest.fixture(scope="module")
def lm() -> MambaLM:
    torch.manual_seed(0)
    model = MambaLM(MambaConfig(d_model=WIDTH, n_layers=LAYERS, vocab_size=64, d_state=8)).eval()
    model.reset_parameters()
    return model.requires_grad_(False)


def rows(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(seed))


def batch(*samples: tuple[int, int], key: int = 7) -> Rows:
    """Samples of (visual, text) lengths with random rows; sample i's rows and key depend on i only."""
    return Rows.pack(
        [rows(v, 100 + i) for i, (v, _) in enumerate(samples)],
        [rows(t, 200 + i) for i, (_, t) in enumerate(samples)],
        torch.arange(key, key + len(samples)),
    )


def single(i: int, visual: int, text: int, key: int = 7) -> Rows:
    return Rows.pack([rows(visual, 100 + i)], [rows(text, 200 + i)], torch.tensor([key + i]))


def same(a: Prefilled, b: Prefilled, tolerance: float = 1e-5) -> bool:
    states = zip(a.states, b.states, strict=True)
    return torch.allclose(a.hidden, b.hidden, atol=tolerance, rtol=tolerance) and all(
        torch.allclose(x.ssm, y.ssm, atol=tolerance, rtol=tolerance)
        and torch.allclose(x.conv, y.conv, atol=tolerance, rtol=tolerance)
        for x, y in states
    )


def origins(prefilled: Prefilled) -> list[list[list[int]]]:
    """Stage by stage, sample by sample: the visual tokens left."""
    return [[rows.tolist() for rows in kept.origin] for kept in prefilled.kept]


METHODS = {
    "none": (),
    "dtp": DTP(0.5, early=2, late=4).steps(SHAPE),
    "early only": DTP(0.3, early=2, late=None).steps(SHAPE),
    "late only": (Stage(after=3, keep=0.0),),
    "random": RandomPruning(0.5, early=1, late=5).steps(SHAPE),
    "input": (Stage(after=0, keep=0.4, score=Random(3)),),
    "three": (Stage(1, 0.8, Delta()), Stage(3, 0.4, Delta()), Stage(5, 0.1, Delta())),
    "all": DTP(0.5, early=2, late=4, candidates="all").steps(SHAPE),
}


@pytest.mark.parametrize("stages", METHODS.values(), ids=METHODS.keys())
def test_a_batch_equals_the_loop(lm: MambaLM, stages: tuple[Stage, ...]) -> None:
    shapes = [(20, 5), (20, 1), (7, 9), (0, 3), (20, 63)]
    together = prefill(lm, batch(*shapes), stages)
    for i, (visual, text) in enumerate(shapes):
        alone = prefill(lm, single(i, visual, text), stages)
        torch.testing.assert_close(together.hidden[i : i + 1], alone.hidden, atol=1e-5, rtol=1e-5)
        for ours, theirs in zip(together.states, alone.states, strict=True):
            torch.testing.assert_close(ours.ssm[i : i + 1], theirs.ssm, atol=1e-5, rtol=1e-5)
        if visual:
            assert [k.origin[i].tolist() for k in together.kept] == [k.origin[0].tolist() for k in alone.kept]


def test_a_batch_has_the_bits_of_the_loop_where_products_are_ours(lm: MambaLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32, whatever the number of rows that are packed together."""
    monkeypatch.setattr(fast, "OURS", True)
    shapes = [(20, 5), (70, 1), (7, 9), (0, 3), (20, 63)]
    together = prefill(lm, batch(*shapes))
    for i, (visual, text) in enumerate(shapes):
        alone = prefill(lm, single(i, visual, text))
        assert torch.equal(together.hidden[i : i + 1], alone.hidden)
        assert torch.equal(lm.logits(together.hidden)[i : i + 1], lm.logits(alone.hidden))
        for ours, theirs in zip(together.states, alone.states, strict=True):
            assert torch.equal(ours.ssm[i : i + 1], theirs.ssm)
            assert torch.equal(ours.conv[i : i + 1], theirs.conv)


@pytest.mark.parametrize("stages", METHODS.values(), ids=METHODS.keys())
def test_image_first_then_question_equals_one_pass(lm: MambaLM, stages: tuple[Stage, ...]) -> None:
    """Also where a stage's choice sees text: then the image waits at that stage for the question."""
    empty = rows(0, 0)
    images = Rows.pack([rows(20, 100), rows(20, 101)], [empty, empty], torch.tensor([7, 8]))
    prefix = prefill(lm, images, stages, awaits_text=True)
    index = torch.tensor([0, 1, 0])
    questions = [rows(4, 200), rows(9, 201), rows(1, 202)]
    resumed = prefill(lm, Rows.pack([empty] * 3, questions), stages, prefix.repeat(index))
    visual = [rows(20, 100), rows(20, 101), rows(20, 100)]
    whole = prefill(lm, Rows.pack(visual, questions, torch.tensor([7, 8, 7])), stages)
    assert same(resumed, whole)
    assert origins(resumed) == origins(whole)


@pytest.mark.parametrize("cut", [1, 2, 3, 40, 62])
def test_two_parts_and_single_steps_equal_one_pass(lm: MambaLM, cut: int) -> None:
    text, none = rows(63, 5), rows(0, 0)
    whole = prefill(lm, Rows.pack([none], [text]))
    first = prefill(lm, Rows.pack([none], [text[:cut]]))
    assert same(prefill(lm, Rows.pack([none], [text[cut:]]), resume=first), whole)
    stepped = first
    for row in text[cut:]:
        stepped = prefill(lm, Rows.pack([none], [row[None]]), resume=stepped)
    assert same(stepped, whole)


def test_keep_one_without_late_stage_is_bit_identical_to_none(lm: MambaLM) -> None:
    tokens = batch((20, 5), (13, 2))
    plain = prefill(lm, tokens)
    kept = prefill(lm, tokens, DTP(1.0, early=2, late=None).steps(SHAPE))
    assert torch.equal(plain.hidden, kept.hidden)
    for a, b in zip(plain.states, kept.states, strict=True):
        assert torch.equal(a.ssm, b.ssm)
        assert torch.equal(a.conv, b.conv)


@settings(max_examples=40, deadline=None)
@given(
    keep=st.floats(0, 1),
    shapes=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 6)), min_size=1, max_size=4),
    early=st.integers(1, 3),
)
def test_survivors_ascend_and_hold_all_text(lm: MambaLM, keep: float, shapes: list, early: int) -> None:
    stages = (Stage(after=early, keep=keep, score=Delta()),)
    tokens = batch(*shapes)
    left = prefill(lm, tokens, stages).tokens
    for (start, end), (visual, text) in zip(left.spans, shapes, strict=True):
        origin = left.origin[start:end].tolist()
        assert origin == sorted(set(origin))
        assert origin[-text:] == list(range(visual, visual + text))
        assert left.visual[start:end].sum().item() == int(keep * visual + 1e-6)


def test_complete_pruning_leaves_a_text_only_model(lm: MambaLM) -> None:
    """From layer k on the model is the text-only model fed with what enters layer k."""
    tokens, k = batch((20, 6)), 3
    pruned = prefill(lm, tokens, (Stage(after=k, keep=0.0),))
    rows = tokens
    for layer in lm.blocks[:k]:
        rows, _, _ = layer.prefill(rows)
    rows = Rows.pack([rows.x[:0]], [rows.x[20:]])
    for layer in lm.blocks[k:]:
        rows, _, _ = layer.prefill(rows)
    torch.testing.assert_close(pruned.hidden[0], rows.x[-1])


def test_scores_that_are_not_finite_name_the_layer(lm: MambaLM) -> None:
    tokens = batch((20, 5))
    tokens.x[3] = torch.nan
    with pytest.raises(NonFiniteScore, match="after layer 2"):
        prefill(lm, tokens, METHODS["dtp"])


def test_stages_must_fit_the_model(lm: MambaLM) -> None:
    with pytest.raises(UserError, match="at most 5"):
        prefill(lm, batch((20, 5)), (Stage(after=6, keep=0.0),))
    with pytest.raises(UserError, match="ascend"):
        prefill(lm, batch((20, 5)), (Stage(after=3, keep=0.0), Stage(after=3, keep=0.0)))


def test_all_candidates_keep_the_last_row(lm: MambaLM) -> None:
    left = prefill(lm, batch((20, 5), (20, 5)), (Stage(2, 0.0001, Random(), candidates="all"),)).tokens
    assert left.lengths == (5, 5)
    for start, end in left.spans:
        assert 24 in left.origin[start:end].tolist()
    assert left.n_visual == tuple(int(left.visual[a:b].sum()) for a, b in left.spans)
