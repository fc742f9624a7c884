"""The hybrid as a folder of transformers' own, with processor and chat template."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from deltaprune.hosted.processors import pictures_only
from training.recipe import CONFIG
from training.vocabulary import EOS

MARKS = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
NAMES = ("image_token", "video_token", "vision_start_token", "vision_end_token")
TEMPLATE = (  # the zephyr template of the bundled model, the image before it
    "{%- for message in messages -%}"
    "{%- if message.content is string -%}{%- set text = message.content -%}{%- else -%}"
    "{%- for part in message.content -%}{%- if part.type == 'image' -%}{{- '<|image_pad|>' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- set text = message.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join('\\n') -%}"
    "{%- endif -%}"
    "{{- '<|' + message.role + '|>\\n' + (text | trim) + '<|endoftext|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}"
)


def save_hybrid(folder: Path, model: Any, tokenizer: Tokenizer, about: dict[str, Any]) -> None:
    """Write model, processor and chat template; `about` goes into about.json.

    The processor makes every picture 128 x 128, as in training.
    """
    from transformers import PreTrainedTokenizerFast
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    config = model.config
    ids = dict(zip(NAMES, (tokenizer.token_to_id(mark) for mark in MARKS), strict=True))
    config.image_token_id, config.video_token_id = ids["image_token"], ids["video_token"]
    config.vision_start_token_id, config.vision_end_token_id = ids["vision_start_token"], ids["vision_end_token"]
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = tokenizer.token_to_id(EOS)
    model.save_pretrained(folder)
    words: Any = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer.to_str()),
        eos_token=EOS,
        pad_token=EOS,
        extra_special_tokens=dict(zip(NAMES, MARKS, strict=True)),
    )
    tower = CONFIG.towers["siglip"]
    pixels = tower.image_size**2
    pictures: Any = Qwen2VLImageProcessorPil(
        patch_size=tower.patch_size,
        merge_size=1,
        temporal_patch_size=1,
        min_pixels=pixels,
        max_pixels=pixels,
        image_mean=list(tower.mean),
        image_std=list(tower.std),
    )
    kind: Any = pictures_only("qwen3_5")
    kind(image_processor=pictures, tokenizer=words, chat_template=TEMPLATE).save_pretrained(folder)
    (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
