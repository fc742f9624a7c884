"""What cannot work on a model of transformers' own ends in one sentence."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import transformers
from cuts import Cuts, generated
from families import make, one, prompt

import deltaprune as dp
from deltaprune.inplace.cache import PrunedLayer
from deltaprune.mean_states import MeanStates
from deltaprune.methods import parse
from deltaprune.steps import Method, Pass, Shape

pytestmark = pytest.mark.usefixtures("unchecked")
METHOD = Cuts(((2, 0.5),))


def refused(method: Method, model: Any, **call: Any) -> str:
    with pytest.raises(dp.UserError) as error, method(model), torch.no_grad():
        model.generate(**call, max_new_tokens=3, do_sample=False) if call else pytest.fail("it was taken")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_family_that_is_not_known() -> None:
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, vocab_size=64
        )
    )
    said = refused(METHOD, model)
    assert said.startswith("A LlamaForCausalLM (model_type 'llama') cannot be pruned in place: ")
    assert "qwen3_5" in said


def test_a_part_of_the_model() -> None:
    said = refused(METHOD, make("qwen3_5").model)
    assert "give the whole model, as AutoModelForImageTextToText loads it" in said


def test_a_part_that_is_called_by_itself() -> None:
    """Nothing tells it which rows are visual: an unpruned answer would look like a pruned one."""
    model, inputs = make("qwen3_5"), one("qwen3_5")
    with METHOD(model), pytest.raises(dp.UserError, match="call the whole Qwen3_5ForConditionalGeneration"):
        model.model(**inputs)
    model.model(**inputs)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(reentrant: bool) -> None:
    """In the backward pass the hooks are off: some layers would take another way, unnoticed."""
    model, inputs = make("llava+jamba").requires_grad_(True).train(), one("llava+jamba")
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": reentrant})
    with METHOD(model):
        with pytest.raises(dp.UserError, match="Gradient checkpointing"):
            model(**inputs, use_cache=False)
        with torch.no_grad():
            model(**inputs, use_cache=False)
        model.activation_checkpointing_disable()
        model(**inputs, use_cache=False).logits[:, -1].logsumexp(-1).sum().backward()


def test_a_score_that_no_layer_tells() -> None:
    assert "needs step, which no layer before it provides" in refused(dp.DTP(), make("qwen2_5_vl"))
    assert "needs attention, which no layer before it provides" in refused(
        dp.FastV(after=2, score="last_attention"), make("qwen3_5")
    )
    assert "which no layer before it provides" in refused(dp.DTP(score="output"), make("qwen2_5_vl"))
    assert "which no layer before it provides" in refused(dp.DTP(score="stateful"), make("lfm2_vl"))


def test_attention_that_takes_no_masks() -> None:
    model = make("qwen3_5")
    model.model.language_model.config._attn_implementation = "flash_attention_2"
    said = refused(dp.Freeze(write=1), model)
    assert said.startswith("Layers that image rows only write to have masks of their own, which 'flash_attention_2'")
    with dp.Freeze(skip=1)(model):
        pass


def test_mean_states() -> None:
    @dataclass(frozen=True)
    class Mean(Method):
        def steps(self, shape: Shape) -> tuple[Pass, ...]:
            return (Pass((1,), "mean", MeanStates("")),)

    assert refused(Mean(), make("qwen3_5")).startswith("Mean states are found and kept for models of deltaprune's own")


def test_a_norm_that_is_not_known() -> None:
    model = make("qwen3_5")
    layer = model.model.language_model.layers[1]
    layer.first_norm = layer.input_layernorm
    del layer.input_layernorm
    assert refused(dp.Freeze(write=1), model).startswith("Layer 1 has no norm called input_layernorm")


def test_smaller_pictures() -> None:
    said = refused(parse("downscale:keep=0.5"), make("qwen3_5"))
    assert said.startswith("Pictures are shrunk by the model's own processor here")
    with parse("downscale:keep=1")(make("qwen3_5")):
        pass


def test_a_layer_beyond_the_model() -> None:
    assert "lies beyond the model" in refused(dp.VTW(after=8), make("qwen3_5"))


def test_methods_do_not_nest() -> None:
    model = make("qwen3_5")
    with METHOD(model):
        assert "methods do not nest" in refused(METHOD, model)
        generated(model, one("qwen3_5"))


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")  # of torch's compiler
def test_compiled_models() -> None:
    model = make("qwen3_5")
    model.compile()
    assert refused(METHOD, model).startswith("A compiled model cannot be pruned in place")


def test_static_caches() -> None:
    said = refused(METHOD, make("smolvlm"), **one("smolvlm"), cache_implementation="static")
    assert said.startswith("A pruned prompt cannot be kept in a StaticCache")


def test_a_quantized_cache_class() -> None:
    model, inputs = make("qwen3_5"), one("qwen3_5")

    class Other(transformers.DynamicCache):
        pass

    said = refused(METHOD, model, **inputs, cache=Other(config=model.config.text_config))
    assert said.startswith("A pruned prompt cannot be kept in a Other")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("qwen3_vl", "requires a cache that can be cropped"),
        ("lfm2_vl", "The cache records its past, as assisted decoding"),
    ],
)
def test_assisted_decoding(name: str, said: str) -> None:
    """transformers has a sentence of its own where an attention layer of the cache cannot take tokens back."""
    with METHOD(make(name)) as target, pytest.raises(ValueError, match=said):
        target.model.generate(**one(name), max_new_tokens=3, prompt_lookup_num_tokens=2)
    layer = PrunedLayer()
    with pytest.raises(dp.UserError, match="cannot take tokens back"):
        layer.crop(-1)


def test_prefill_chunks() -> None:
    said = refused(METHOD, make("qwen3_5"), **one("qwen3_5"), prefill_chunk_size=8)
    assert said.startswith("The prompt ends within an image, as with prefill_chunk_size")


def test_inputs_embeds() -> None:
    model = make("qwen3_5")
    embeds = torch.zeros(1, 4, 32)
    with METHOD(model), pytest.raises(dp.UserError, match="needs input_ids"):
        model(inputs_embeds=embeds)


def test_pads_on_the_right() -> None:
    inputs = prompt("qwen3_5", (5, (4, 4), 6, 7), (5, (4, 4), 6))
    inputs = {key: value.flip(1) if key in ("attention_mask",) else value for key, value in inputs.items()}
    assert "has its pads on the left" in refused(METHOD, make("qwen3_5"), **inputs)


def test_masks_of_ones_own() -> None:
    model, inputs = make("qwen3_5"), one("qwen3_5")
    length = inputs["input_ids"].shape[1]
    inputs["attention_mask"] = torch.ones(1, 1, length, length).tril().bool()
    with METHOD(model), pytest.raises(dp.UserError, match="makes its own masks"):
        model(**inputs)


def test_labels_and_places_in_the_prompt() -> None:
    model, inputs = make("qwen3_5"), one("qwen3_5")
    with METHOD(model), pytest.raises(dp.UserError, match="labels do not fit"):
        model(**inputs, labels=inputs["input_ids"])
    with METHOD(model), pytest.raises(dp.UserError, match="places in the prompt"):
        model(**inputs, logits_to_keep=torch.tensor([3]))


def test_video_that_is_pruned_already() -> None:
    model = make("nemotron_h_omni")
    model.config.video_pruning_rate = 0.5
    assert "video_pruning_rate = 0" in refused(METHOD, model)


def test_new_images_of_different_sizes_in_chats_side_by_side() -> None:
    model = make("lfm2_vl")
    first, new = prompt("lfm2_vl", (5, 6), (7, 8)), prompt("lfm2_vl", (9, (4, 4), 3), (9, (2, 4), 3), seed=3)
    with METHOD(model), torch.no_grad():
        cache = model(**first).cache
        new["attention_mask"] = torch.cat([first["attention_mask"], new["attention_mask"]], 1)
        with pytest.raises(dp.UserError, match="continue the chats one by one"):
            model(**new, cache=cache)


def test_scores_that_are_not_finite() -> None:
    model, inputs = make("qwen3_5"), one("qwen3_5")
    model.model.language_model.layers[1].linear_attn.in_proj_b.weight.fill_(float("nan"))
    with dp.DTP(early=2, late=4)(model), pytest.raises(ArithmeticError, match="read after layer 2"):
        generated(model, inputs)
