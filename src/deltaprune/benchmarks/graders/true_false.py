"""VSR: does the text call the caption true or false. `Sample.answer` is "True" or "False".

Always saying True scores 51.5 on the zero-shot test split.
"""

import re
from collections.abc import Sequence

from deltaprune.benchmarks._base import Graded, Sample, Summary, mean_of_questions
from deltaprune.benchmarks.graders.binary import areas, confusion


def first_word(text: str) -> str:
    """True or False, whichever of the two words comes first in the text, in any case; "" if neither does.

    Worked example: "The statement is false, not true." -> "False"; "Untrue" -> "", since it is another word. VSR's
    authors score a classifier, which has no text to read, so this rule is ours.
    """
    found = re.search(r"\b(true|false)\b", text, re.IGNORECASE)
    return found[1].capitalize() if found else ""


def grade(sample: Sample, prediction: str) -> float:
    """1 if the text says what is right, else 0; a text that says neither is wrong."""
    return float(first_word(prediction) == sample.answer)


def summary(graded: Sequence[Graded]) -> Summary:
    """Headline: accuracy. Metrics: precision, recall, f1, true_ratio; with probabilities also auc_roc and auc_pr.

    Source of the headline and the areas: TRI-ML/vlm-evaluation d9f5896, `tasks/harnesses/vsr.py`.
    """
    accuracy = mean_of_questions(graded)
    said, right = [first_word(each.prediction) for each in graded], [each.sample.answer for each in graded]
    counts = confusion(said, right, positive="True", negative="False")
    return Summary(accuracy.mean, accuracy.by_skill, counts | areas(graded, "True", "True"))
