"""What the user says to the model under each protocol; the model wraps it into its own template.

Sources: haotian-liu/LLaVA c121f04 (the short-answer strings), h-zhao1997/vlm-evaluation b0a691f `models/cobra.py`,
lmzpai/roboMamba 3175e62 `test.py`, lmms-eval 0.7.3 (each task's YAML file and `doc_to_text`).
"""

from deltaprune.benchmarks._base import Sample

SHORT = "\nAnswer the question using a single word or phrase."
UNANSWERABLE = "\nWhen the provided information is insufficient, respond with 'Unanswerable'."
ROBOMAMBA_VIZWIZ = (  # the misspelling and the spaces are the source's
    "When the provided information is insuffcient, respond with 'Unanswerable'. "
    "Answer the question using a single word or phrase. "
)


def plain(sample: Sample) -> str:
    """The question and nothing else (RoboMamba): "Is it red?"."""
    return sample.question


def short_answer(sample: Sample) -> str:
    """LLaVA-1.5's short answer: "Is it red?\\nAnswer the question using a single word or phrase."."""
    return sample.question + SHORT


def stripped_short_answer(sample: Sample) -> str:
    """The same without spaces around the question (lmms-eval's POPE)."""
    return sample.question.strip() + SHORT


def short_or_unanswerable(sample: Sample) -> str:
    """LLaVA-1.5's VizWiz message: the question, leave to say "Unanswerable", short answer."""
    return sample.question + UNANSWERABLE + SHORT


def capitalised_short_or_unanswerable(sample: Sample) -> str:
    """lmms-eval's VizWiz message: the same, the question's first letter large and all others small."""
    return sample.question.capitalize() + UNANSWERABLE + SHORT


def robomamba_vizwiz(sample: Sample) -> str:
    """RoboMamba's VizWiz message: its own sentence follows the question without a space."""
    return sample.question + ROBOMAMBA_VIZWIZ


def ocr_after(sample: Sample) -> str:
    """LLaVA-1.5's TextVQA message: question, OCR tokens if there are any, short answer."""
    return sample.question + _ocr(sample, before="\n") + SHORT


def ocr_before(sample: Sample) -> str:
    """Cobra's TextVQA message: OCR tokens if there are any, question, short answer.

    The Cobra paper gives 43.0 for LLaVA's order, 47.9 without OCR tokens, and this order for its 58.2.
    """
    return _ocr(sample, after="\n") + sample.question + SHORT


def capitalised_ocr_after(sample: Sample) -> str:
    """lmms-eval's TextVQA message: LLaVA's order, the question's first letter large and all others small."""
    return sample.question.capitalize() + _ocr(sample, before="\n") + SHORT


def true_or_false(sample: Sample) -> str:
    """The VSR message of vlm-evaluation; the question is the caption."""
    return (
        f'Based on the image, is this statement "True" or "False"? {sample.question}\n'
        'Respond with "True" or "False" directly.'
    )


def _ocr(sample: Sample, before: str = "", after: str = "") -> str:
    """The line of OCR tokens, empty where the sample has none."""
    return f"{before}Reference OCR token: {', '.join(sample.context)}{after}" if sample.context else ""
