"""What VizWiz reports beside its accuracy: how well a model knows that a question has no answer."""

from collections.abc import Sequence
from statistics import fmean

from deltaprune.benchmarks._base import Graded, Summary, mean_of_questions
from deltaprune.benchmarks.graders.binary import average_precision, confusion
from deltaprune.benchmarks.graders.contractions import VIZWIZ_CONTRACTIONS
from deltaprune.benchmarks.graders.normalise import normalise_vqa

_NONE = "unanswerable"


def summary(graded: Sequence[Graded]) -> Summary:
    """Headline: accuracy over all questions.

    Metrics: the accuracy over answerable and over unanswerable questions, and how well the prediction "unanswerable"
    finds the latter, as F1 and as average precision. Unanswerable questions are those whose `Sample.skill` is
    "unanswerable" (`answerable` is 0 in the files).

    Worked example: of two unanswerable and two answerable questions one each is called unanswerable: precision and
    recall are 1/2, so F1 is 50; average precision is 1/2 * 1/2 + 1/2 * 2/4 = 50.

    Source: TRI-ML/vlm-evaluation d9f5896, `tasks/harnesses/vizwiz.py` and `util/evaluation/vizwiz/eval.py`.
    """
    accuracy = mean_of_questions(graded)
    labels = [each.sample.skill == _NONE for each in graded]
    said = [normalise_vqa(each.prediction, VIZWIZ_CONTRACTIONS) == _NONE for each in graded]
    metrics = {}
    for name, wanted in (("answerable", False), (_NONE, True)):
        grades = [each.correct for each, label in zip(graded, labels, strict=True) if label is wanted]
        if grades:
            metrics[name] = 100 * fmean(grades)
    if any(labels):
        metrics["unanswerable_f1"] = confusion(_words(said), _words(labels), "yes", "no")["f1"]
        metrics["unanswerable_ap"] = 100 * average_precision(labels, said)
    return Summary(accuracy.mean, accuracy.by_skill, metrics)


def _words(truths: Sequence[bool]) -> list[str]:
    return ["yes" if truth else "no" for truth in truths]
