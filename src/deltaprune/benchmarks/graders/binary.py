"""Scores of a yes-or-no decision: accuracy's companions from the counts, and areas under curves from probabilities."""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

from deltaprune.benchmarks._base import Graded


def confusion(said: Sequence[str], right: Sequence[str], positive: str, negative: str) -> dict[str, float]:
    """Precision, recall, F1 and the share of positive answers, percent.

    Worked example, positive "yes": said yes, yes, no, no where yes, no, yes, no is right: one true positive, one false
    positive, one false negative: precision 50, recall 50, F1 50, yes ratio 50.

    Args:
        said: the decisions; one that is neither counts as not positive and as no miss, as in lmms-eval 0.7.3.
        right: the right ones.
        positive: the decision whose precision and recall are asked for.
        negative: the other one.

    A share of nothing (no positive answer, say) is 0, as in lmms-eval; POPE's `evaluate.py` stops there with an error.
    """
    pairs = list(zip(said, right, strict=True))
    hits, false_alarms = pairs.count((positive, positive)), pairs.count((positive, negative))
    misses = pairs.count((negative, positive))
    precision, recall = _share(hits, hits + false_alarms), _share(hits, hits + misses)
    return {
        "precision": 100 * precision,
        "recall": 100 * recall,
        "f1": 100 * _share(2 * precision * recall, precision + recall),
        f"{positive.lower()}_ratio": 100 * _share(hits + false_alarms, len(pairs)),
    }


def areas(graded: Sequence[Graded], choice: str, right: str) -> dict[str, float]:
    """Areas under the ROC and the precision-recall curve of one choice's probability, percent.

    Args:
        graded: answers with `choices`; if any has none, or if all right answers are alike, there are no areas: `{}`.
        choice: whose probability ranks the answers, such as "Yes".
        right: the `Sample.answer` of the questions where it is right, such as "yes".
    """
    if not all(each.choices for each in graded):
        return {}
    labels = [each.sample.answer == right for each in graded]
    if all(labels) or not any(labels):
        return {}
    scores = [each.choices[choice] for each in graded]
    return {"auc_roc": 100 * roc_auc(labels, scores), "auc_pr": 100 * average_precision(labels, scores)}


def roc_auc(labels: Sequence[bool], scores: Sequence[float]) -> float:
    """The share of pairs (a true one, a false one) in which the true one scores higher; ties count half.

    The Mann-Whitney form of the area under the ROC curve, as scikit-learn's `roc_auc_score` gives it.
    """
    below = twice = 0
    for true, false in _ties(labels, scores):
        twice += true * (2 * below + false)
        below += false
    return twice / (2 * (len(labels) - below) * below)


def average_precision(labels: Sequence[bool], scores: Sequence[float]) -> float:
    """Sum over thresholds, from the highest score down, of the recall gained times the precision there.

    As scikit-learn's `average_precision_score`: no interpolation, equal scores are one threshold.
    """
    taken = hits = 0
    area = 0.0
    for true, false in reversed(list(_ties(labels, scores))):
        hits += true
        taken += true + false
        area += true * hits / taken
    return area / hits


def _ties(labels: Sequence[bool], scores: Sequence[float]) -> list[tuple[int, int]]:
    """For each distinct score, ascending: how many true ones have it, and how many false ones."""
    by_score = itemgetter(0)
    ranked = sorted(zip(scores, labels, strict=True), key=by_score)
    groups = [[label for _, label in group] for _, group in groupby(ranked, key=by_score)]
    return [(sum(group), len(group) - sum(group)) for group in groups]


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
