"""POPE and VSR: what a text says, and the counts and areas that are reported of it; by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deltaprune.benchmarks import Graded, Protocol, Sample
from deltaprune.benchmarks.graders.binary import average_precision, confusion, roc_auc
from deltaprune.benchmarks.graders.protocols import POPE, VIZWIZ, VSR
from deltaprune.benchmarks.graders.true_false import first_word
from deltaprune.benchmarks.graders.yes_no import prefix_rule, whole_text, word_rule


def answered(
    protocol: Protocol, answer: str, prediction: str, skill: str = "random", choices: dict[str, float] | None = None
) -> Graded:
    sample = Sample("1", "1", lambda: Image.new("RGB", (2, 2)), "Is it?", answer, skill, (answer,) * 10)
    return Graded(sample, prediction, protocol.grade(sample, prediction), choices or {})


@pytest.mark.parametrize(
    ("text", "words", "prefix", "whole"),  # evaluate.py, RoboMamba, lmms-eval
    [
        ("yes", "yes", "yes", "yes"),
        ("No", "no", "no", "no"),
        ("Yes.", "yes", "yes", "yes."),
        (" YES\n", "yes", "yes", "yes"),
        ("Yes. No.", "yes", "yes", "yes. no."),  # only the first sentence counts
        ("No, there is not", "no", "no", "no, there is not"),
        ("There is not one", "no", "no", "there is not one"),
        ("NO", "yes", "no", "no"),  # only No, no and not are words of the rule
        ("no!", "yes", "no", "no!"),
        ("no\n", "yes", "no", "no"),  # only single spaces part words
        ("nothing", "yes", "no", "nothing"),
        ("Yesterday", "yes", "yes", "yesterday"),
        ("It is", "yes", "no", "it is"),
        ("", "yes", "no", ""),
    ],
)
def test_what_a_text_says(text: str, words: str, prefix: str, whole: str) -> None:
    assert (word_rule(text), prefix_rule(text), whole_text(text)) == (words, prefix, whole)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("True", "True"),
        ("false.", "False"),
        ('"True"', "True"),
        ("The statement is false, not true.", "False"),
        ("Untrue", ""),
        ("yes", ""),
        ("", ""),
    ],
)
def test_true_or_false(text: str, says: str) -> None:
    assert first_word(text) == says
    assert VSR["official"].grade(answered(VSR["official"], "True", text).sample, text) == (says == "True")


def test_counts_by_hand() -> None:
    """Said yes four times, rightly thrice; of five yes two were missed: P = 3/4, R = 3/5, F1 = 2PR/(P+R) = 2/3."""
    said = ["yes", "yes", "yes", "yes", "no", "no", "no", "no"]
    right = ["yes", "yes", "yes", "no", "yes", "yes", "no", "no"]
    counts = confusion(said, right, positive="yes", negative="no")
    expected = {"precision": 75, "recall": 60, "f1": 200 / 3, "yes_ratio": 50}
    assert counts == pytest.approx(expected)


def test_a_share_of_nothing_is_nothing() -> None:
    assert confusion(["no"], ["no"], "yes", "no") == {"precision": 0, "recall": 0, "f1": 0, "yes_ratio": 0}


def test_areas_by_hand() -> None:
    """Scores .9 T, .8 F, .5 T, .5 F, .1 F. Pairs (2 T x 3 F): .9 beats all 3; .5 beats .1, ties .5, loses to .8: 1.5.

    Thresholds: .9 gains recall 1/2 at precision 1/1; .8 gains none; .5 gains 1/2 at 2/4. Area 1/2 + 1/4.
    """
    labels, scores = [True, False, True, False, False], [0.9, 0.8, 0.5, 0.5, 0.1]
    assert roc_auc(labels, scores) == pytest.approx(4.5 / 6)
    assert average_precision(labels, scores) == pytest.approx(0.75)


ranked = st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.2, 0.4, 0.7])), min_size=2, max_size=30).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


@settings(deadline=None)
@given(ranked)
def test_areas_only_see_the_order(pairs: list[tuple[bool, float]]) -> None:
    labels, scores = [label for label, _ in pairs], [score for _, score in pairs]
    cubed = [score**3 for score in scores]
    assert roc_auc(labels, cubed) == pytest.approx(roc_auc(labels, scores))
    assert average_precision(labels, cubed) == pytest.approx(average_precision(labels, scores))
    assert roc_auc([not label for label in labels], scores) == pytest.approx(1 - roc_auc(labels, scores))
    above = [(t, f) for t, x in pairs for f, y in pairs if t and not f and x > y]
    level = [(t, f) for t, x in pairs for f, y in pairs if t and not f and x == y]
    n = sum(labels) * (len(labels) - sum(labels))
    assert roc_auc(labels, scores) == pytest.approx((len(above) + len(level) / 2) / n)


def test_pope_is_the_mean_of_its_splits() -> None:
    """Random: right, right, right, wrong; adversarial: right, wrong. Accuracies 75 and 50, headline 62.5 (not 4 of 6).

    Random: said yes at the 3rd of (yes, yes, yes, no): hits 2, miss 1, no false alarm. Adversarial: hit, false alarm.
    """
    official = POPE["official"]
    said = [("yes", "Yes", "random"), ("yes", "It is", "random"), ("yes", "no", "random"), ("no", "not", "random")]
    said += [("yes", "yes", "adversarial"), ("no", "yes", "adversarial")]
    summary = official.summary([answered(official, *each) for each in said])
    assert summary.mean == pytest.approx(62.5)
    assert summary.by_skill == {"random": 75, "adversarial": 50}
    assert summary.metrics["random/precision"] == 100
    assert summary.metrics["random/recall"] == pytest.approx(200 / 3)
    assert summary.metrics["random/f1"] == pytest.approx(80)  # 2 * 1 * (2/3) / (5/3)
    assert summary.metrics["adversarial/f1"] == pytest.approx(200 / 3)  # P 1/2, R 1
    assert summary.metrics["f1"] == pytest.approx((80 + 200 / 3) / 2)
    assert summary.metrics["random/yes_ratio"] == 50
    assert summary.metrics["yes_ratio"] == 75


def test_pope_pooled_where_the_harness_pools() -> None:
    """The same answers: 4 of 6 right by RoboMamba's prefix rule but for "It is", which it takes for a no: 3 of 6."""
    robomamba = POPE["robomamba"]
    said = [("yes", "Yes", "random"), ("yes", "It is", "random"), ("yes", "no", "random"), ("no", "not", "random")]
    said += [("yes", "yes", "adversarial"), ("no", "yes", "adversarial")]
    summary = robomamba.summary([answered(robomamba, *each) for each in said])
    assert summary.mean == pytest.approx(50)
    assert summary.metrics == pytest.approx(
        {"precision": 200 / 3, "recall": 50, "f1": 400 / 7, "yes_ratio": 50}  # 2 hits, 1 false alarm, 2 misses
    )


def test_lmms_eval_counts_a_sentence_as_neither() -> None:
    """A "Yes, it is" is wrong, but no miss: recall is 1 of 1."""
    lmms = POPE["lmms-eval"]
    summary = lmms.summary(
        [answered(lmms, "yes", "Yes"), answered(lmms, "yes", "Yes, it is"), answered(lmms, "no", "no")]
    )
    assert summary.mean == pytest.approx(200 / 3)
    assert summary.metrics["recall"] == 100


def test_pope_by_probability_has_areas_of_each_split_and_of_all() -> None:
    """Random ranks perfectly, popular the wrong way round; pooled, .9 beats .2 and .7, .6 beats .2 only: 3 of 4."""
    cobra = POPE["cobra"]
    given = [("yes", 0.9, "random"), ("no", 0.2, "random"), ("yes", 0.6, "popular"), ("no", 0.7, "popular")]
    graded = [
        answered(cobra, answer, "Yes" if p > 0.5 else "No", split, {"Yes": p, "No": 1 - p})
        for answer, p, split in given
    ]
    summary = cobra.summary(graded)
    assert (summary.mean, summary.by_skill) == (75, {"random": 100, "popular": 50})
    areas = {name: value for name, value in summary.metrics.items() if name.endswith("auc_roc")}
    assert areas == {"auc_roc": 75, "random/auc_roc": 100, "popular/auc_roc": 0}
    assert summary.metrics["popular/auc_pr"] == pytest.approx(50)


def test_no_areas_without_probabilities_or_with_one_answer_alone() -> None:
    for protocol, answer, said in ((POPE["cobra"], "yes", "Yes"), (VSR["cobra"], "True", "True")):
        without = protocol.summary([answered(protocol, answer, said)])
        alone = protocol.summary([answered(protocol, answer, said, choices={"Yes": 0.9, "True": 0.9})])
        assert not [name for name in (*without.metrics, *alone.metrics) if "auc" in name]


def test_vsr_by_hand() -> None:
    """Two of three right; said true twice, once rightly; the true one outranks one of the two false ones."""
    cobra = VSR["cobra"]
    given = [("True", 0.6), ("False", 0.8), ("False", 0.1)]
    graded = [
        answered(cobra, answer, "True" if p > 0.5 else "False", "Projective", {"True": p, "False": 1 - p})
        for answer, p in given
    ]
    summary = cobra.summary(graded)
    assert summary.mean == pytest.approx(200 / 3)
    assert summary.metrics == pytest.approx(
        {"precision": 50, "recall": 100, "f1": 200 / 3, "true_ratio": 200 / 3, "auc_roc": 50, "auc_pr": 50}
    )


def test_vizwiz_on_questions_without_an_answer() -> None:
    """Of two unanswerable and two answerable ones, one each is called so: F1 50, average precision 1/4 + 1/4."""
    official = VIZWIZ["official"]
    said = [("unanswerable", "Unanswerable.", "unanswerable"), ("unanswerable", "soup", "unanswerable")]
    said += [("soup", "unanswerable", "other"), ("soup", "soup", "other")]
    summary = official.summary([answered(official, *each) for each in said])
    expected = {"answerable": 50, "unanswerable": 50, "unanswerable_f1": 50, "unanswerable_ap": 50}
    assert (summary.mean, summary.metrics) == (50, expected)
    answerable_alone = official.summary([answered(official, "soup", "soup", "other")])
    assert answerable_alone.metrics == {"answerable": 100}
