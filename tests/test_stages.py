"""Counting, choosing, and the sentences for what cannot be."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deltaprune.errors import UserError
from deltaprune.methods import parse
from deltaprune.methods.dtp import DTP
from deltaprune.methods.random import RandomPruning
from deltaprune.rows import Rows
from deltaprune.scores.delta import Delta
from deltaprune.scores.random import Random
from deltaprune.selection import floor_count, select
from deltaprune.steps import Plan, Shape, Stage
from deltaprune.trace import Trace

PLANNED = Shape(n_layers=64, n_visual=729, plan=Plan(15, 45))


def packed(*shapes: tuple[int, int]) -> Rows:
    return Rows.pack([torch.zeros(v, 2) for v, _ in shapes], [torch.zeros(t, 2) for _, t in shapes])


@pytest.mark.parametrize(
    ("keep", "n", "expected"), [(0.5, 729, 364), (0.9, 729, 656), (0.7, 729, 510), (0.29, 100, 29)]
)
def test_the_papers_count(keep: float, n: int, expected: int) -> None:
    """0.29 * 100 is 28.999999999999996 in floating point; a user means 29."""
    assert floor_count(keep, n) == expected


@given(st.floats(0, 1), st.integers(0, 2000))
def test_a_count_is_a_share(keep: float, n: int) -> None:
    assert 0 <= floor_count(keep, n) <= n


def test_keep_is_a_share_of_the_original_image() -> None:
    stage = Stage(after=3, keep=0.5, score=Delta())
    assert stage.counts(n_image=(100, 100), n_visual=(80, 30)) == (50, 30)


def test_ties_go_to_the_lower_index() -> None:
    kept = select(Stage(1, 0.5, Delta()), torch.ones(13), packed((10, 3)))
    assert kept.rows.tolist() == [0, 1, 2, 3, 4, 10, 11, 12]


def test_the_highest_survive_in_prompt_order() -> None:
    scores = torch.tensor([0.1, 9.0, 0.3, 0.4, 5.0, -1.0, -2.0])
    kept = select(Stage(1, 0.4, Delta()), scores, packed((5, 2)))
    assert kept.rows.tolist() == [1, 4, 5, 6]
    assert (kept.lengths, kept.n_visual) == ((4,), (2,))


@pytest.mark.parametrize("candidates", ["visual", "all"])
def test_visual_rows_are_ranked_best_first_and_the_kept_ones_lead(candidates: str) -> None:
    scores = torch.tensor([5.0, 4.0, 9.0, 2.0, 7.0, -7.0, 3.0, 8.0, 1.0])
    stage = Stage(1, 0.5, Delta(), candidates=candidates)  # pyright: ignore[reportArgumentType]
    kept = select(stage, scores, packed((4, 2), (2, 1)))
    assert [rows.tolist() for rows in kept.ranked] == [[2, 0, 1, 3], [7, 6]]
    for ranked, (a, b), left in zip(kept.ranked, ((0, 6), (6, 9)), kept.n_visual, strict=True):
        survivors = {row for row in kept.rows.tolist() if a <= row < b}
        assert set(ranked[:left].tolist()) == survivors & set(ranked.tolist())


def test_text_competes_when_asked_to_but_the_last_row_stays() -> None:
    scores = torch.tensor([5.0, 4.0, 3.0, 2.0, 9.0, -7.0, -9.0])
    kept = select(Stage(1, 0.5, Delta(), candidates="all"), scores, packed((4, 3)))
    assert kept.rows.tolist() == [0, 1, 2, 4, 6]
    assert (kept.lengths, kept.n_visual) == ((5,), (3,))


def test_random_choices_depend_on_the_image_and_the_seed_only() -> None:
    alone = Random(1)(packed((50, 2)), Trace())
    assert torch.equal(Random(1)(packed((50, 9)), Trace())[:50], alone[:50])
    assert not torch.equal(Random(2)(packed((50, 2)), Trace()), alone)
    many = Random(0)(packed((20_000, 0)), Trace())
    assert abs(many.mean().item() - 0.5) < 0.01
    assert abs(many.std().item() - 12**-0.5) < 0.01


def test_dtp_is_two_stages() -> None:
    assert DTP(0.9).steps(PLANNED) == (Stage(15, 0.9, Delta()), Stage(45, 0.0))
    assert DTP(0.5, early=3, late=None).steps(PLANNED) == (Stage(3, 0.5, Delta()),)
    assert RandomPruning(0.5, seed=4).steps(PLANNED)[0].score == Random(4)


def test_the_text_form_names_the_same_method() -> None:
    assert parse("dtp:keep=0.9,early=3,late=none,score=random") == DTP(0.9, 3, None, Random())
    assert parse("dtp:keep=1;late=12") == DTP(1, late=12)
    assert parse(" random : keep = 0.25 , seed = 3 ") == RandomPruning(0.25, seed=3)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("dpt", "did you mean 'dtp'"),
        ("dtp:kep=0.5", "did you mean 'keep'"),
        ("dtp:keep", "field=value"),
        ("dtp:keep=1.5", "between 0 and 1"),
        ("dtp:keep=nan", "between 0 and 1"),
        ("dtp:keep=half", "not a number"),
        ("dtp:keep=0.5,keep=0.7", "twice"),
        ("random:seed=abc", "from 0 up"),
        ("dtp:early=-1", "from 0 up"),
        ("dtp:early=none", "from 0 up"),
        ("dtp:score=dleta", "did you mean 'delta'"),
        ("dtp:candidates=text", '"visual" or "all"'),
        ("", "no method ''"),
    ],
)
def test_mistakes_end_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        parse(text).steps(PLANNED)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_without_a_plan_says_so() -> None:
    with pytest.raises(UserError, match="no plan"):
        DTP().steps(Shape(n_layers=8, n_visual=10))
