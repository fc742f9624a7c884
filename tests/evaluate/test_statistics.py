"""Statistics against slow loops, closed forms, values by hand, and what they promise in repeated experiments."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from answers import SKILLS, answers, record

from deltaprune.benchmarks import Graded, Summary, mean_of_questions, mean_of_skills, registry
from deltaprune.evaluate import Record
from deltaprune.evaluate.statistics import (
    PROBES,
    RESAMPLES,
    bootstrap,
    change,
    exact_mcnemar,
    graded,
    headline,
    holm,
    interval,
)


def f1(answered: Sequence[Graded]) -> Summary:
    """A headline that is no mean: F1 of the answer "yes"."""
    hits = sum(each.prediction == "yes" and each.sample.answer == "yes" for each in answered)
    said = sum(each.prediction == "yes" for each in answered)
    due = sum(each.sample.answer == "yes" for each in answered)
    return Summary(200 * hits / max(said + due, 1), {})


def rounded(answered: Sequence[Graded]) -> Summary:
    """As official scorers do: two decimals, and metrics of its own."""
    plain = mean_of_questions(answered)
    return Summary(round(plain.mean, 2), plain.by_skill, {"yes ratio": 50.0})


def yes_or_no(pictures: int, seed: int) -> list[Record]:
    """Half of the right answers are no, so that F1 is no accuracy."""
    rng = np.random.default_rng(seed)
    made = answers(pictures, 0.7, seed)
    return [replace(each, answer=("yes", "no")[int(rng.integers(2))]) for each in made]


def by_loop(records: list[Record], summary, resamples: int, seed: int) -> list[float]:
    """The same draws, picture by picture through the protocol's own summary."""
    pictures = list(dict.fromkeys(each.image_id for each in records))
    drawn = np.random.default_rng(seed).integers(len(pictures), size=(resamples, len(pictures)))
    headlines = []
    for sample in drawn:
        chosen = [each for i in sample for each in records if each.image_id == pictures[i]]
        headlines.append(summary([graded(each) for each in chosen]).mean)
    return headlines


@pytest.mark.parametrize("summary", [mean_of_skills, mean_of_questions, rounded, f1])
def test_bootstrap_against_a_loop(summary) -> None:
    records = yes_or_no(12, seed=1)
    found = bootstrap(records, summary, resamples=60, seed=5)
    tolerance = 0.006 if summary is rounded else 1e-9
    np.testing.assert_allclose(found, by_loop(records, summary, 60, 5), atol=tolerance)
    assert np.ptp(found) > 5


EVERY = [(name, protocol) for name in registry.names() for protocol in registry[name].protocols]


@pytest.mark.parametrize(("name", "protocol"), EVERY, ids=["-".join(pair) for pair in EVERY])
def test_every_protocol_is_quick(name: str, protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its headline is known for one of the two means, so that the protocol itself is asked a few times only."""
    asked, summary = [], registry[name].protocols[protocol].summary

    def counted(answered: Sequence[Graded]) -> Summary:
        asked.append(len(answered))
        return summary(answered)

    records = yes_or_no(30, seed=3)
    found = bootstrap(records, counted, resamples=100)
    assert len(asked) <= 2 * PROBES
    assert found == pytest.approx(by_loop(records, summary, 100, 0), abs=0.006)


def test_a_skill_that_is_not_drawn_does_not_count() -> None:
    records = [record(0, "colour", 1), record(1, "count", 0)]
    found = bootstrap(records, mean_of_skills, resamples=200)
    assert set(found) == {0.0, 50.0, 100.0}


def test_blocks_of_resamples_change_nothing_but_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    records = answers(50, 0.8, seed=2)
    whole = bootstrap(records, mean_of_skills, resamples=500)
    monkeypatch.setattr("deltaprune.evaluate.statistics.BLOCK", 50 * 7)
    parts = bootstrap(records, mean_of_skills, resamples=500)
    assert len(parts) == len(whole) == 500
    np.testing.assert_array_equal(parts, whole)


def test_interval_of_single_questions_is_the_binomial_one() -> None:
    """One question per picture: the bootstrap's variance is p (1 - p) / n."""
    records = [record(i, "colour", i % 5 > 0) for i in range(500)]
    found = interval(records, mean_of_skills)
    assert found is not None
    half = 1.96 * 100 * math.sqrt(0.8 * 0.2 / 500)
    assert found == pytest.approx((80 - half, 80 + half), abs=0.5)


def test_questions_about_one_picture_count_once() -> None:
    """Six copies of each answer tell no more than one: the interval stays; drawing questions would shrink it."""
    single = [record(i, "colour", i % 5 > 0) for i in range(200)]
    copies = [replace(each, id=f"{each.id}-{copy}") for each in single for copy in range(6)]
    assert interval(copies, mean_of_questions) == pytest.approx(interval(single, mean_of_questions))


@pytest.mark.parametrize("together", [0.0, 0.8])
def test_coverage(together: float) -> None:
    """About 95 % of the intervals hold the truth, also where the answers about a picture hang together."""
    held = 0
    for seed in range(150):
        found = interval(answers(60, 0.7, seed, together=together), mean_of_skills, resamples=200)
        assert found is not None
        held += found[0] <= 70 <= found[1]
    assert 135 <= held <= 148


def test_the_test_is_wrong_about_one_time_in_twenty() -> None:
    below = 0
    for seed in range(100):
        ours, theirs = answers(60, 0.7, seed), answers(60, 0.7, seed + 10_000)
        p = change(ours, theirs, mean_of_skills, resamples=200).p
        assert p is not None
        below += p < 0.05
    assert 1 <= below <= 11


def test_change_is_paired() -> None:
    theirs = answers(150, 0.5, seed=3)
    lost = [replace(each, correct=0.0) if i % 25 == 0 else each for i, each in enumerate(theirs)]
    found = change(lost, theirs, mean_of_skills)
    assert found.points == pytest.approx(headline(lost, mean_of_skills) - headline(theirs, mean_of_skills))
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.points < found.high < 0
    assert found.p == pytest.approx(2 / (RESAMPLES + 1))
    spread = interval(theirs, mean_of_skills)
    assert spread is not None
    assert found.high - found.low < 0.5 * (spread[1] - spread[0])


def test_no_change_at_all() -> None:
    records = answers(30, 0.5, seed=4)
    found = change(records, records, mean_of_skills)
    assert (found.points, found.low, found.high, found.p, found.mcnemar, found.n) == (0, 0, 0, 1, 1, len(records))


def test_turning_the_two_round_turns_the_sign() -> None:
    ours, theirs = answers(60, 0.6, seed=5), answers(60, 0.7, seed=6)
    there, back = change(ours, theirs, mean_of_skills), change(theirs, ours, mean_of_skills)
    assert there.points == pytest.approx(-back.points)
    assert (there.p, there.mcnemar) == (back.p, back.mcnemar)
    assert there.low is not None
    assert there.low == pytest.approx(-(back.high or 0))


def test_the_interval_and_the_test_agree() -> None:
    for seed in range(20):
        found = change(answers(60, 0.6, seed), answers(60, 0.7, seed + 1000), mean_of_skills)
        assert found.low is not None
        assert found.high is not None
        assert found.p is not None
        if abs(found.p - 0.05) > 0.005:
            assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_questions_are_matched_by_id() -> None:
    ours, theirs = answers(40, 0.6, seed=7), answers(40, 0.8, seed=8)
    some = [each for each in reversed(theirs) if each.image_id != "0"]
    found = change(ours, some, mean_of_skills)
    assert found == change([each for each in ours if each.image_id != "0"], some[::-1], mean_of_skills)
    assert found.n == len(ours) - len(SKILLS)
    with pytest.raises(ValueError, match="no question in common"):
        change(ours[:1], theirs[1:], mean_of_skills)


def test_one_picture_has_no_interval() -> None:
    records = answers(1, 0.5, seed=9)
    assert interval(records, mean_of_skills) is None
    found = change(records, records, mean_of_skills)
    assert (found.low, found.high, found.p, found.mcnemar) == (None, None, None, 1.0)


@pytest.mark.parametrize(
    ("only_ours", "only_theirs", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (0, 6, 2 / 64),  # 2 (1/2)^6
        (2, 8, 2 * (1 + 10 + 45) / 1024),
        (5, 5, 1.0),
        (10, 3, 2 * (1 + 13 + 78 + 286) / 8192),
    ],
)
def test_mcnemar_by_hand(only_ours: int, only_theirs: int, p: float) -> None:
    ours = [1] * only_ours + [0] * only_theirs + [1, 1, 0]
    theirs = [0] * only_ours + [1] * only_theirs + [1, 1, 0]
    assert exact_mcnemar(ours, theirs) == pytest.approx(p)
    assert exact_mcnemar(theirs, ours) == pytest.approx(p)


@pytest.mark.parametrize(("only_ours", "only_theirs"), [(2100, 1950), (86, 150), (1, 700), (3, 4)])
def test_mcnemar_against_whole_numbers(only_ours: int, only_theirs: int) -> None:
    """Where no rounding can hide; to 1e-12, as before scipy computed it."""
    n = only_ours + only_theirs
    tail = sum(math.comb(n, k) for k in range(min(only_ours, only_theirs) + 1))
    found = exact_mcnemar([1] * only_ours + [0] * only_theirs, [0] * only_ours + [1] * only_theirs)
    assert found == pytest.approx(float(Fraction(2 * tail, 2**n)), rel=1e-12, abs=0)


@pytest.mark.parametrize(
    ("only_ours", "only_theirs", "printed"),
    [
        (86, 150, "3.716e-05"),  # Agresti, Categorical Data Analysis, table 10.1; p by R's exact2x2
        (121, 59, "4.434e-06"),  # the worked example of Wikipedia on the test; p by statsmodels
    ],
)
def test_mcnemar_as_published(only_ours: int, only_theirs: int, printed: str) -> None:
    found = exact_mcnemar([1] * only_ours + [0] * only_theirs, [0] * only_ours + [1] * only_theirs)
    assert f"{found:.3e}" == printed


def test_mcnemar_needs_right_or_wrong() -> None:
    assert exact_mcnemar([0.3, 1], [1, 0]) is None
    partly = [replace(each, correct=0.3 * each.correct) for each in answers(20, 0.5, seed=1)]
    assert change(partly, partly, mean_of_skills).mcnemar is None


def test_holm_as_published() -> None:
    """R's multtest, as statsmodels' own tests hold it (10 p-values of one experiment)."""
    raw = [0.838541367553, 0.642193923795, 0.680845947633, 0.967833824309, 0.71626938238, 0.177096952723]
    raw += [5.23656777208e-05, 0.0202732688798, 0.00028140506198, 0.0149877310796]
    expected = [1.0] * 6 + [5.23656777208e-04, 1.4191288215860001e-01, 2.5326455578199999e-03, 1.1990184863680001e-01]
    assert holm(raw) == pytest.approx(expected, rel=1e-12, abs=0)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_fast_enough_at_ten_thousand_questions() -> None:
    records = answers(3750, 0.7, seed=0)
    assert len(records) == 10_000
    start = time.process_time()
    bootstrap(records, mean_of_skills)
    assert time.process_time() - start < 1.5  # 0.3 s on a quiet core


def test_a_record_has_no_picture() -> None:
    with pytest.raises(ValueError, match="keeps no picture"):
        graded(record(0, "colour", 1)).sample.load()
