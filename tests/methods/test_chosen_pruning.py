"""What the user dropped is what the model does not see."""

import pytest
import torch

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.errors import UserError
from deltaprune.methods import parse
from deltaprune.methods.chosen import ChosenPruning
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import prefill
from deltaprune.rows import Rows
from deltaprune.steps import Shape

VISUAL, TEXT = 17, 5
SHAPE = Shape(6, VISUAL)


def test_it_is_the_model_that_was_never_given_these_patches() -> None:
    torch.manual_seed(0)
    lm = MambaLM(MambaConfig(d_model=32, n_layers=6, vocab_size=64, d_state=8)).eval().requires_grad_(False)
    lm.reset_parameters()
    image, text = torch.randn(VISUAL, 32), torch.randn(TEXT, 32)
    left = [j for j in range(VISUAL) if j not in (0, 4, 5, 16)]
    pruned = prefill(lm, Rows.pack([image], [text]), ChosenPruning("0+4-5+16").checked_steps(SHAPE))
    alone = prefill(lm, Rows.pack([image[left]], [text]))
    assert pruned.kept[0].origin[0].tolist() == left
    torch.testing.assert_close(pruned.hidden, alone.hidden, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("n", range(VISUAL + 1))
def test_as_many_are_left_as_were_not_dropped(n: int) -> None:
    steps = ChosenPruning(range(n), after=2).steps(SHAPE)
    assert [stage.counts((VISUAL,), (VISUAL,)) for stage in steps] == ([(VISUAL - n,)] if n else [])


@pytest.mark.parametrize(("n_image", "left"), [(40, 36), (17, 13), (6, 3), (3, 2)])
def test_an_image_of_another_size(n_image: int, left: int) -> None:
    """A model whose images have as many tokens as their size asks for: a number beyond the image chooses nothing."""
    (stage,) = ChosenPruning("0+4-5+16").steps(SHAPE)
    assert stage.counts((n_image,), (n_image,)) == (left,)


def test_a_text_a_list_and_a_number_name_the_same() -> None:
    assert ChosenPruning("3-5") == ChosenPruning([5, 4, 3]) == parse("chosen:drop=3-5")
    assert ChosenPruning("7") == ChosenPruning(7) == parse("chosen:drop=7")


@pytest.mark.parametrize(("text", "said"), [("chosen:drop=x", "list of patches"), ("chosen:drop=17", "no patch 17")])
def test_what_cannot_be_dropped(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse(text).checked_steps(SHAPE)
