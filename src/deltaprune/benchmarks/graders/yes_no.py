"""POPE: does the text say yes or no, and what is reported of 9,000 such answers.

`Sample.answer` is "yes" or "no", `Sample.skill` one of random, popular, adversarial.
"""

from collections.abc import Callable, Sequence
from statistics import fmean

from deltaprune.benchmarks._base import Graded, Sample, Summary, mean_of_questions, mean_of_skills
from deltaprune.benchmarks.graders.binary import areas, confusion

Read = Callable[[str], str]


def word_rule(text: str) -> str:
    """A no if the first sentence holds No, no or not as a word of its own, else a yes.

    A sentence ends at the first period; commas are deleted; words are what single spaces separate, so "NO", "no!" and
    "no\\n" are no such words. Worked example: "There is no dog, sorry. Yes." -> "There is no dog sorry" -> "no".
    Source: AoiDragon/POPE 08d957b, `evaluate.py`; LLaVA c121f04 has the same in `eval_pope.py`.
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "no", "not"} & set(words) else "yes"


def prefix_rule(text: str) -> str:
    """A yes if the first three letters are yes in any case, else a no: "Yesterday" is a yes, "It is." a no.

    Source: lmzpai/roboMamba 3175e62, `judge_pope` in `test.py`, which strips the text when it writes it.
    """
    return "yes" if text.strip()[:3].lower() == "yes" else "no"


def whole_text(text: str) -> str:
    """The text itself, stripped, in lower case: "Yes" is a yes, "Yes." is neither.

    Source: lmms-eval 0.7.3, `pope_process_results`.
    """
    return text.lower().strip()


def grade(read: Read) -> Callable[[Sample, str], float]:
    """1 if what `read` makes of the prediction is the sample's answer, else 0."""
    return lambda sample, prediction: float(read(prediction) == sample.answer)


def by_split(read: Read) -> Callable[[Sequence[Graded]], Summary]:
    """Headline: the mean of the splits' accuracies.

    Metrics: precision, recall, f1 and yes_ratio, of each split ("random/f1") and the mean of the splits ("f1"). LLaVA's
    headline is that mean F1.
    """

    def summary(graded: Sequence[Graded]) -> Summary:
        headline = mean_of_skills(graded)
        parts = {split: _confusion(_of(graded, split), read) for split in headline.by_skill}
        means = {name: fmean(part[name] for part in parts.values()) for name in next(iter(parts.values()))}
        return Summary(headline.mean, headline.by_skill, means | _flat(parts))

    return summary


def by_probability(graded: Sequence[Graded]) -> Summary:
    """As `by_split(whole_text)`; with probabilities also auc_roc and auc_pr, of each split and of all answers at once.

    Source: TRI-ML/vlm-evaluation d9f5896, `tasks/harnesses/pope.py`: it averages accuracy over splits, but pools areas.
    """
    text = by_split(whole_text)(graded)
    parts = {split: areas(_of(graded, split), "Yes", "yes") for split in text.by_skill}
    return Summary(text.mean, text.by_skill, {**text.metrics, **areas(graded, "Yes", "yes"), **_flat(parts)})


def pooled(read: Read) -> Callable[[Sequence[Graded]], Summary]:
    """Headline: the mean over all questions; metrics: precision, recall, f1 and yes_ratio over all questions at once.

    RoboMamba and lmms-eval report these. lmms-eval's own yes_ratio counts the right answers instead of the predictions,
    so it is always 50 there; here it counts the predictions.
    """

    def summary(graded: Sequence[Graded]) -> Summary:
        headline = mean_of_questions(graded)
        return Summary(headline.mean, headline.by_skill, _confusion(graded, read))

    return summary


def _of(graded: Sequence[Graded], split: str) -> list[Graded]:
    return [each for each in graded if each.sample.skill == split]


def _confusion(graded: Sequence[Graded], read: Read) -> dict[str, float]:
    said, right = [read(each.prediction) for each in graded], [each.sample.answer for each in graded]
    return confusion(said, right, positive="yes", negative="no")


def _flat(parts: dict[str, dict[str, float]]) -> dict[str, float]:
    """{"random": {"f1": x}} as {"random/f1": x}."""
    return {f"{split}/{name}": value for split, part in parts.items() for name, value in part.items()}
