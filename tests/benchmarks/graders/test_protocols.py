"""The messages letter for letter, the decoding, and what must hold of every protocol."""

import pytest
from PIL import Image

from deltaprune.benchmarks import FirstToken, Graded, Greedy, Protocol, Sample
from deltaprune.benchmarks.graders import protocols

ALL = {
    "gqa": protocols.GQA,
    "vqav2": protocols.VQAV2,
    "textvqa": protocols.TEXTVQA,
    "pope": protocols.POPE,
    "vsr": protocols.VSR,
    "vizwiz": protocols.VIZWIZ,
    "okvqa": protocols.OKVQA,
}
EACH = [pytest.param(rules, id=f"{name}-{key}") for name, of in ALL.items() for key, rules in of.items()]
SHORT = "Answer the question using a single word or phrase."
UNANSWERABLE = "When the provided information is insufficient, respond with 'Unanswerable'."


def asked(question: str = "what IS it?", ocr: tuple[str, ...] = ()) -> Sample:
    answers, sure = ("yes",) * 10, ("yes",) * 10
    return Sample("1", "1", lambda: Image.new("RGB", (2, 2)), question, "yes", "random", answers, ocr, sure)


@pytest.mark.parametrize(
    ("name", "protocol", "message"),
    [
        ("gqa", "official", f"what IS it?\n{SHORT}"),
        ("gqa", "cobra", f"what IS it?\n{SHORT}"),
        ("gqa", "robomamba", "what IS it?"),
        ("gqa", "lmms-eval", f"what IS it?\n{SHORT}"),
        ("vqav2", "cobra", f"what IS it?\n{SHORT}"),
        ("vqav2", "robomamba", "what IS it?"),
        ("okvqa", "official", f"what IS it?\n{SHORT}"),
        ("okvqa", "lmms-eval", f"what IS it?\n{UNANSWERABLE}\n{SHORT}"),
        ("pope", "cobra", f"what IS it?\n{SHORT}"),
        ("textvqa", "official", f"what IS it?\n{SHORT}"),
        ("textvqa", "cobra", f"what IS it?\n{SHORT}"),
        ("textvqa", "lmms-eval", f"What is it?\n{SHORT}"),
        ("vizwiz", "official", f"what IS it?\n{UNANSWERABLE}\n{SHORT}"),
        ("vizwiz", "cobra", f"what IS it?\n{UNANSWERABLE}\n{SHORT}"),
        ("vizwiz", "lmms-eval", f"What is it?\n{UNANSWERABLE}\n{SHORT}"),
        (
            "vizwiz",
            "robomamba",
            "what IS it?When the provided information is insuffcient, respond with 'Unanswerable'. "
            "Answer the question using a single word or phrase. ",
        ),
        (
            "vsr",
            "cobra",
            'Based on the image, is this statement "True" or "False"? what IS it?\n'
            'Respond with "True" or "False" directly.',
        ),
    ],
)
def test_messages(name: str, protocol: str, message: str) -> None:
    assert ALL[name][protocol].message(asked()) == message


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ("official", f"what IS it?\nReference OCR token: STOP, b 2\n{SHORT}"),
        ("cobra", f"Reference OCR token: STOP, b 2\nwhat IS it?\n{SHORT}"),
        ("lmms-eval", f"What is it?\nReference OCR token: STOP, b 2\n{SHORT}"),
    ],
)
def test_ocr_tokens_stand_where_the_harness_puts_them(protocol: str, message: str) -> None:
    assert ALL["textvqa"][protocol].message(asked(ocr=("STOP", "b 2"))) == message


def test_lmms_eval_strips_popes_question() -> None:
    assert ALL["pope"]["lmms-eval"].message(asked(" Is it? ")) == f"Is it?\n{SHORT}"


def test_decoding() -> None:
    robomamba = {name: of["robomamba"].decoding for name, of in ALL.items() if "robomamba" in of}
    tokens = {"gqa": 256, "vqav2": 16, "pope": 2, "vizwiz": 64, "okvqa": 64}
    assert robomamba == {name: Greedy(n) for name, n in tokens.items()}  # its temperature is undone by its top_k=1
    assert ALL["pope"]["cobra"].decoding == FirstToken(("Yes", "No"))
    assert ALL["vsr"]["cobra"].decoding == FirstToken(("True", "False"))
    assert ALL["gqa"]["cobra"].decoding == Greedy(128)
    assert ALL["vqav2"]["lmms-eval"].decoding == Greedy(16)


def test_a_harness_has_no_entry_where_it_has_no_such_benchmark() -> None:
    assert set(ALL["vsr"]) == {"official", "cobra"}
    assert set(ALL["textvqa"]) == {"official", "cobra", "lmms-eval"}
    assert set(ALL["okvqa"]) == {"official", "robomamba", "lmms-eval"}


@pytest.mark.parametrize("rules", EACH)
def test_every_protocol_grades_and_sums_up(rules: Protocol) -> None:
    """A single answer is a set that every summary can take; percentages lie between 0 and 100."""
    for prediction in ("yes", "True", "", "?"):
        sample = asked()
        grade = rules.grade(sample, prediction)
        assert 0 <= grade <= 1
        summary = rules.summary([Graded(sample, prediction, grade)])
        assert summary.mean == pytest.approx(100 * grade)
        assert all(0 <= value <= 100 for value in (*summary.by_skill.values(), *summary.metrics.values()))


def test_only_what_was_run_against_the_scorer_is_called_checked() -> None:
    checked = {(name, key) for name, of in ALL.items() for key, rules in of.items() if rules.checked}
    assert checked == {(name, "lmms-eval") for name in ALL if name != "vsr"} | {("pope", "official")}
    assert all("lenient" in of["robomamba"].source for of in ALL.values() if "robomamba" in of)
