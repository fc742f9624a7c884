"""The protocols of each benchmark, by the harness whose rules they are.

- `official`: the benchmark's own scorer, asked as LLaVA-1.5 asks, since scorers prescribe no prompt.
- `cobra`: Cobra's fork of vlm-evaluation, from which the paper's Cobra numbers come.
- `robomamba`: RoboMamba's own script. It asks for sampling at temperature 0.4, but its `generate` cuts to the likeliest
  token unless told otherwise (top_k=1), so it is greedy. Its judge is lenient; the paper's RoboMamba numbers are lower
  than RoboMamba's own, so a stricter, unnamed harness made them.
- `lmms-eval`: version 0.7.3.

A harness that has no such benchmark has no entry. `checked` is True where that scorer's own code and this one graded
thousands of random answers alike: the lmms-eval package (its messages too), and POPE's `evaluate.py`. The graders of
the others were compared with a transcription of the scorer's rules only (VQA accuracy, VizWiz and RoboMamba's judge:
10,000 random texts, no difference), GQA's `eval.py` and the VSR reading not at all.
"""

from deltaprune.benchmarks._base import FirstToken, Greedy, Protocol, mean_of_questions
from deltaprune.benchmarks.graders import (
    exact_match,
    lenient,
    prompts,
    true_false,
    unanswerable,
    vqa_accuracy,
    yes_no,
)

_LLAVA = "prompt and decoding: haotian-liu/LLaVA c121f04"
_VQA_API = f"GT-Vision-Lab/VQA a013f00 vqaEval.py; {_LLAVA}"
_VSR = "cambridgeltl/visual-spatial-reasoning b27a0af (accuracy); prompt: vlm-evaluation; reading a text: ours"
_COBRA = "h-zhao1997/vlm-evaluation b0a691f, a fork of TRI-ML/vlm-evaluation d9f5896"
_ROBOMAMBA = "lmzpai/roboMamba 3175e62 test.py and judger.py (lenient)"
_LMMS = "EvolvingLMMs-Lab/lmms-eval 0.7.3"

_LLAVA_TOKENS = Greedy(max_new_tokens=128)
_COBRA_TOKENS = Greedy(max_new_tokens=128)
_LMMS_TOKENS = Greedy(max_new_tokens=1024)  # the task leaves it to the model, and lmms-eval's LLaVA takes this

GQA: dict[str, Protocol] = {
    "official": Protocol(
        prompts.short_answer,
        exact_match.official,
        _LLAVA_TOKENS,
        exact_match.binary_and_open,
        f"GQA questions1.2 eval.py after LLaVA's conversion; {_LLAVA}",
    ),
    "cobra": Protocol(prompts.short_answer, exact_match.cobra, _COBRA_TOKENS, exact_match.binary_and_open, _COBRA),
    "robomamba": Protocol(prompts.plain, lenient.gqa, Greedy(max_new_tokens=256), mean_of_questions, _ROBOMAMBA),
    "lmms-eval": Protocol(
        prompts.short_answer, exact_match.lmms, Greedy(max_new_tokens=16), mean_of_questions, _LMMS, checked=True
    ),
}

VQAV2: dict[str, Protocol] = {
    "official": Protocol(prompts.short_answer, vqa_accuracy.official, _LLAVA_TOKENS, mean_of_questions, _VQA_API),
    "cobra": Protocol(prompts.short_answer, vqa_accuracy.cobra, _COBRA_TOKENS, mean_of_questions, _COBRA),
    "robomamba": Protocol(prompts.plain, lenient.vqa, Greedy(max_new_tokens=16), mean_of_questions, _ROBOMAMBA),
    "lmms-eval": Protocol(
        prompts.short_answer, vqa_accuracy.lmms_vqav2, Greedy(max_new_tokens=16), mean_of_questions, _LMMS, checked=True
    ),
}

TEXTVQA: dict[str, Protocol] = {
    "official": Protocol(
        prompts.ocr_after,
        vqa_accuracy.evalai,
        _LLAVA_TOKENS,
        mean_of_questions,
        f"MMF's TextVQAAccuracyEvaluator; {_LLAVA}",
    ),
    "cobra": Protocol(prompts.ocr_before, vqa_accuracy.evalai, _COBRA_TOKENS, mean_of_questions, _COBRA),
    "lmms-eval": Protocol(
        prompts.capitalised_ocr_after, vqa_accuracy.evalai, _LMMS_TOKENS, mean_of_questions, _LMMS, checked=True
    ),
}

POPE: dict[str, Protocol] = {
    "official": Protocol(
        prompts.short_answer,
        yes_no.grade(yes_no.word_rule),
        _LLAVA_TOKENS,
        yes_no.by_split(yes_no.word_rule),
        f"AoiDragon/POPE 08d957b evaluate.py; {_LLAVA}",
        checked=True,
    ),
    "cobra": Protocol(
        prompts.short_answer,
        yes_no.grade(yes_no.whole_text),
        FirstToken(choices=("Yes", "No")),
        yes_no.by_probability,
        _COBRA,
    ),
    "robomamba": Protocol(
        prompts.plain,
        yes_no.grade(yes_no.prefix_rule),
        Greedy(max_new_tokens=2),
        yes_no.pooled(yes_no.prefix_rule),
        _ROBOMAMBA,
    ),
    "lmms-eval": Protocol(
        prompts.stripped_short_answer,
        yes_no.grade(yes_no.whole_text),
        Greedy(max_new_tokens=128),
        yes_no.pooled(yes_no.whole_text),
        _LMMS,
        checked=True,
    ),
}

VSR: dict[str, Protocol] = {
    "official": Protocol(prompts.true_or_false, true_false.grade, _LLAVA_TOKENS, true_false.summary, _VSR),
    "cobra": Protocol(
        prompts.true_or_false, true_false.grade, FirstToken(choices=("True", "False")), true_false.summary, _COBRA
    ),
}

VIZWIZ: dict[str, Protocol] = {
    "official": Protocol(
        prompts.short_or_unanswerable,
        vqa_accuracy.vizwiz,
        _LLAVA_TOKENS,
        unanswerable.summary,
        f"the VizWiz script in TRI-ML/vlm-evaluation d9f5896; {_LLAVA}",
    ),
    "cobra": Protocol(prompts.short_or_unanswerable, vqa_accuracy.vizwiz, _COBRA_TOKENS, unanswerable.summary, _COBRA),
    "robomamba": Protocol(
        prompts.robomamba_vizwiz, lenient.vizwiz, Greedy(max_new_tokens=64), mean_of_questions, _ROBOMAMBA
    ),
    "lmms-eval": Protocol(
        prompts.capitalised_short_or_unanswerable,
        vqa_accuracy.evalai,
        _LMMS_TOKENS,
        mean_of_questions,
        _LMMS,
        checked=True,
    ),
}

OKVQA: dict[str, Protocol] = {
    "official": Protocol(prompts.short_answer, vqa_accuracy.official, _LLAVA_TOKENS, mean_of_questions, _VQA_API),
    "robomamba": Protocol(prompts.plain, lenient.vqa, Greedy(max_new_tokens=64), mean_of_questions, _ROBOMAMBA),
    "lmms-eval": Protocol(
        prompts.short_or_unanswerable, vqa_accuracy.evalai, _LMMS_TOKENS, mean_of_questions, _LMMS, checked=True
    ),
}
