"""GQA: the prediction is the answer, letter for letter, after what each harness tidies.

Worked example, answer "yes", prediction "Yes.": 1 under these rules; prediction "yes, it is": 0. Answer "t-shirt",
prediction "T-shirt": 1 by `official` and `lmms`, 0 by `cobra`, which deletes the hyphen from the prediction only.
"""

import string
from collections.abc import Sequence
from statistics import fmean

from deltaprune.benchmarks._base import Graded, Sample, Summary, mean_of_questions

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def official(sample: Sample, prediction: str) -> float:
    """Equality as in GQA's `eval.py`, after LLaVA's conversion: trailing periods dropped, lower case.

    Source: `eval.py` of questions1.2; LLaVA c121f04 `convert_gqa_for_eval.py`. A file that went through such a
    conversion is graded as `eval.py` grades it; on others `eval.py` is stricter, since to it "Yes" is not "yes".
    """
    return float(prediction.rstrip(".").lower() == sample.answer)


def cobra(sample: Sample, prediction: str) -> float:
    """Punctuation deleted and lower case in the prediction only.

    Source: TRI-ML/vlm-evaluation d9f5896, `tasks/harnesses/gqa.py`; Cobra's fork b0a691f keeps it. Its model strips
    spaces from what it generates, so that is done here.
    """
    return float(prediction.strip().translate(_NO_PUNCTUATION).lower() == sample.answer)


def lmms(sample: Sample, prediction: str) -> float:
    """Punctuation deleted and lower case on both sides.

    Source: lmms-eval 0.7.3, task `gqa`: exact_match with ignore_case and ignore_punctuation; `process_results` strips
    the prediction first.
    """

    def tidy(text: str) -> str:
        return text.lower().translate(_NO_PUNCTUATION)

    return float(tidy(prediction.strip()) == tidy(sample.answer))


def binary_and_open(graded: Sequence[Graded]) -> Summary:
    """Headline: accuracy. Metrics as `eval.py` names them: open, of structural type query, and binary, of all others.

    Source: GQA's `eval.py`; the structural type is `Sample.skill`.
    """
    accuracy = mean_of_questions(graded)
    kinds: dict[str, list[float]] = {"binary": [], "open": []}
    for each in graded:
        kinds["open" if each.sample.skill == "query" else "binary"].append(each.correct)
    metrics = {kind: 100 * fmean(grades) for kind, grades in kinds.items() if grades}
    return Summary(accuracy.mean, accuracy.by_skill, metrics)
