"""transformers' pipeline, with a processor of its own, over a pruned model."""

import contextvars
import threading
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from cuts import Cuts, generated
from families import IMAGE, make, one
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

pytestmark = pytest.mark.usefixtures("unchecked")
METHOD = Cuts(((2, 0.5), (4, 0.0)))
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %} <image> {% else %} {{ part['text'] }} {% endif %}"
    "{% endfor %}{% endfor %}"
)


def processor() -> Any:
    """Words for tokens; a picture of 32 x 32 pixels is 16 tokens, as the tiny InternVL takes it."""
    words = {"<pad>": 0, "<unk>": 1, "<eos>": 2, **{f"w{i}": i for i in range(3, IMAGE)}, "<image>": IMAGE}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>"
    )
    fast.add_special_tokens({"additional_special_tokens": ["<image>"]})
    size = {"height": 32, "width": 32}
    return transformers.LlavaProcessor(
        image_processor=transformers.CLIPImageProcessorPil(size=size, crop_size=size),
        tokenizer=fast,
        patch_size=8,
        vision_feature_select_strategy="full",
        chat_template=TEMPLATE,
    )


def test_the_pipeline() -> None:
    model = make("internvl")
    pipe = transformers.pipeline("image-text-to-text", model=model, processor=processor())
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    content = [{"type": "image", "image": picture}, {"type": "text", "text": "w5 w6 w7"}]
    asked = {"text": [{"role": "user", "content": content}], "return_full_text": False}
    asked["generate_kwargs"] = {
        "do_sample": False,
        "max_new_tokens": 6,
        "min_new_tokens": 6,
        "suppress_tokens": [IMAGE],
    }
    plain = pipe(**asked)[0]["generated_text"]
    with METHOD(pipe.model) as target:
        pruned = pipe(**asked)[0]["generated_text"]
    assert [one.counts for one in target.kept] == [(8,), (0,)]
    assert pruned != plain
    assert pipe(**asked)[0]["generated_text"] == plain


def test_a_thread_takes_the_method_along_in_its_context() -> None:
    """As a streamer's thread does: what is on here is on in a copy of this context."""
    model, inputs, done = make("qwen3_5"), one("qwen3_5"), []

    def work() -> None:
        done.append(generated(model, inputs)[1])

    with METHOD(model):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
        thread.start()
        thread.join()
        assert torch.equal(generated(model, inputs)[1], done[0])
    assert not torch.equal(generated(model, inputs)[1], done[0])
