"""VQA accuracy: an answer counts fully if three of the other annotators gave it, averaged over the annotators left out.

Score = mean over annotators i of min(1, number of j != i who agree with the prediction, / 3). For ten annotators of
whom m agree: m = 0, 1, 2, 3, 4+ gives 0, .3, .6, .9, 1.

The five graders differ only in what is tidied before the comparison. Worked example, prediction "Two": eight annotators
said "2", two said "two dogs". `official` tidies both sides, since the annotators differ: eight match, score 1.
`cobra` leaves the annotators' words in: "2" = "2", score 1, but an annotator's "two" would not match. Had all ten
said "2", `official` would compare "Two" with "2" unchanged: score 0.
"""

from collections.abc import Callable

from deltaprune.benchmarks._base import Sample
from deltaprune.benchmarks.graders.contractions import VIZWIZ_CONTRACTIONS
from deltaprune.benchmarks.graders.normalise import (
    COMMAS_IN_NUMBER,
    normalise_evalai,
    normalise_vqa,
    normalise_words,
    strip_punctuation,
    strip_whitespace,
)
from deltaprune.errors import UserError


def leave_one_out(matches: int, annotators: int = 10) -> float:
    """VQA accuracy in closed form, in [0, 1].

    Args:
        matches: how many annotators agree with the prediction.
        annotators: how many there are.
    """
    agree, differ = min(1.0, (matches - 1) / 3), min(1.0, matches / 3)
    return (matches * agree + (annotators - matches) * differ) / annotators


def annotators_of(sample: Sample) -> tuple[str, ...]:
    """The annotators' answers; without any, a `UserError`."""
    if not sample.answers:
        raise UserError(
            f"Question {sample.id!r} has no annotators' answers, so it cannot be graded: use a split that has them."
        )
    return sample.answers


def official(sample: Sample, prediction: str) -> float:
    """VQAv2 and OK-VQA: both sides are normalised only if the annotators' strings are not all the same.

    Source: GT-Vision-Lab/VQA a013f00, `VQAEval.evaluate`. If all agree, case and punctuation count.
    """
    answers = [strip_whitespace(answer) for answer in annotators_of(sample)]
    said = strip_whitespace(prediction)
    if len(set(answers)) > 1:
        answers, said = [normalise_vqa(answer) for answer in answers], normalise_vqa(said)
    return leave_one_out(answers.count(said), len(answers))


def cobra(sample: Sample, prediction: str) -> float:
    """VQAv2 in vlm-evaluation: the prediction is normalised, the annotators' answers lose punctuation only.

    Source: TRI-ML/vlm-evaluation d9f5896, `util/evaluation/vqav2/eval.py`; Cobra's fork b0a691f keeps it.
    """
    return _accuracy(sample, normalise_vqa(prediction), strip_punctuation)


def evalai(sample: Sample, prediction: str) -> float:
    """TextVQA, and lmms-eval's TextVQA, VizWiz and OK-VQA: both sides by MMF's normaliser, always.

    Source: MMF's `TextVQAAccuracyEvaluator`; lmms-eval 0.7.3, `textvqa_process_results` and its likes.
    """
    return _accuracy(sample, normalise_evalai(prediction), normalise_evalai)


def lmms_vqav2(sample: Sample, prediction: str) -> float:
    """lmms-eval's VQAv2: both sides by MMF's punctuation and words, without its first step.

    Source: lmms-eval 0.7.3, `vqav2_process_results`.
    """

    def tidy(text: str) -> str:
        return normalise_words(strip_punctuation(strip_whitespace(text), COMMAS_IN_NUMBER))

    return _accuracy(sample, tidy(prediction), tidy)


def vizwiz(sample: Sample, prediction: str) -> float:
    """VizWiz: the prediction is normalised, contractions in backticks; the annotators' answers stay as they are.

    Source: the VizWiz script as vlm-evaluation d9f5896 has it in `util/evaluation/vizwiz/eval.py`.
    """
    return _accuracy(sample, normalise_vqa(prediction, VIZWIZ_CONTRACTIONS), lambda answer: answer)


def _accuracy(sample: Sample, said: str, tidy: Callable[[str], str]) -> float:
    answers = [tidy(answer) for answer in annotators_of(sample)]
    return leave_one_out(answers.count(said), len(answers))
