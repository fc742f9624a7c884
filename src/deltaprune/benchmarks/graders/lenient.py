"""RoboMamba's own judge, which is lenient: its scores are inflated and compare with no other protocol's.

An answer counts if the prediction starts with it, or if it holds all of the answer's words as substrings: "no" matches
"I cannot know", "2" matches "12 or 20", and an annotator's "a", normalised to nothing, matches everything. It is here
so that RoboMamba's numbers can be reproduced, and for nothing else.

Worked example, VQAv2, prediction "There are 12 birds", annotators ten times "2": normalised to "there are 12 birds",
which holds "2", so all ten match and the score is 1; by the official rules it is 0.

Source: lmzpai/roboMamba 3175e62, `judger.py` and `test.py`.
"""

from deltaprune.benchmarks._base import Sample
from deltaprune.benchmarks.graders.normalise import PUNCTUATION, normalise_vqa, strip_whitespace
from deltaprune.benchmarks.graders.vqa_accuracy import annotators_of, leave_one_out
from deltaprune.errors import UserError

_VIZWIZ_MARKS = str.maketrans(dict.fromkeys(PUNCTUATION + ":", " "))
_SAME = (("men", "man"), ("drapes", "curtains"), ("girl", "woman"))


def vqa(sample: Sample, prediction: str) -> float:
    """VQAv2 and OK-VQA: both sides normalised, the prediction up to a second "Answer:"; leave one out as everywhere."""
    said = normalise_vqa(_written(prediction).split("Answer:")[0])
    answers = [normalise_vqa(answer) for answer in annotators_of(sample)]
    return leave_one_out(sum(_holds(said, answer) for answer in answers), len(answers))


def vizwiz(sample: Sample, prediction: str) -> float:
    """VizWiz: punctuation becomes spaces, the prediction is in lower case, the annotators' answers stay as they are.

    Not the one annotator alone is left out, but everybody of the same answer and confidence, so a unanimous, equally
    confident panel gives 0. `Sample.confidences` is needed for it, else a `UserError`.
    """
    answers = [strip_whitespace(answer.translate(_VIZWIZ_MARKS)) for answer in annotators_of(sample)]
    if len(sample.confidences) != len(answers):
        raise UserError(
            f"Question {sample.id!r} of vizwiz lacks the annotators' confidences, which protocol robomamba needs: "
            "read the official files, which have them."
        )
    said = strip_whitespace(_written(prediction).split("Answer:")[0].lower().translate(_VIZWIZ_MARKS))
    panel = list(zip(answers, sample.confidences, strict=True))
    grades = []
    for left_out in panel:
        matches = sum(_holds(said, other[0]) for other in panel if other != left_out)
        grades.append(min(1.0, matches / 3))
    return sum(grades) / len(grades)


def gqa(sample: Sample, prediction: str) -> float:
    """GQA: the prediction starts with the answer or has all its words; men is man, drapes curtains, girl woman."""
    said, answer = _merge(_written(prediction)), _merge(sample.answer)
    return float(said.startswith(answer) or set(answer.split()) <= set(said.split()))


def _written(prediction: str) -> str:
    """As `test.py` writes an answer into a line of its results file, and reads it back."""
    return prediction.strip().replace("\n", " ")


def _holds(said: str, answer: str) -> bool:
    return said.startswith(answer) or all(word.lower() in said for word in answer.split())


def _merge(text: str) -> str:
    text = text.lower()
    for other, word in _SAME:
        text = text.replace(other, word)
    return text
