"""Folders as transformers' `save_pretrained` writes them: tiny random models, each with a processor of its own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from families import FAMILIES
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from deltaprune.hosted.processors import pictures_only

transformers.utils.logging.disable_progress_bar()  # a command's stderr is read by tests
TEMPLATE = (
    "{% for m in messages %}<u>{% for c in m.content %}{% if c.type == 'image' %}IMAGE{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)
QWEN = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
}
INTERN = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
LLAVA = {"image_token": "<image>", "video_token": "<video>"}
MARKS = ("image", "image_start", "image_end", "slice_start", "slice_end", "image_id_start", "image_id_end")
SPECIAL = {
    "internvl": INTERN,
    "llava_onevision": LLAVA,
    "smolvlm": {"image_token": "<image>", "fake_image_token": "<fake_token_around_image>"},
    "lfm2_vl": {"image_token": "<image>", "image_start_token": "<|image_start|>", "image_end_token": "<|image_end|>"},
    "nemotron_h_omni": {"image_token": "<image>", "image_start_token": "<img>", "image_end_token": "</img>"},
    "minicpmv4_6": {f"{mark}_token": f"<{mark}>" for mark in MARKS},
}
MORE = {
    "internvl": {"image_seq_length": 16},
    "llava_onevision": {"num_image_tokens": 16, "vision_feature_select_strategy": "full"},
}
SAVED = ("qwen3_5", "qwen3_5_moe", "qwen2_5_vl", "qwen3_vl", "internvl", "llava_onevision")  # by transformers
PUBLISHED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # of two of these, as `OFFICIAL`
    "internvl": (
        {
            "image_processor_type": "GotOcr2ImageProcessorFast",
            "size": {"height": 32, "width": 32},
            "crop_to_patches": True,
            "min_patches": 1,
            "max_patches": 4,
        },
        {"processor_class": "InternVLProcessor", "image_seq_length": 16},
    ),
    "llava_onevision": (
        {
            "image_processor_type": "LlavaOnevisionImageProcessor",
            "size": {"height": 16, "width": 16},
            "image_grid_pinpoints": [[16, 16], [32, 32]],
        },
        {
            "processor_class": "LlavaOnevisionProcessor",
            "num_image_tokens": 16,
            "vision_feature_select_strategy": "full",
        },
    ),
}
OFFICIAL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # preprocessor_config.json, processor_config.json
    "smolvlm": (
        {
            "image_processor_type": "SmolVLMImageProcessor",
            "size": {"longest_edge": 64},
            "max_image_size": {"longest_edge": 32},
            "do_image_splitting": True,
            "resample": 1,
        },
        {"processor_class": "SmolVLMProcessor", "image_seq_len": 16},
    ),
    "lfm2_vl": (
        {
            "image_processor_type": "Lfm2VlImageProcessorFast",
            "encoder_patch_size": 4,
            "downsample_factor": 2,
            "tile_size": 32,
            "min_image_tokens": 4,
            "max_image_tokens": 16,
            "min_tiles": 2,
            "max_tiles": 4,
            "do_image_splitting": True,
            "use_thumbnail": True,
        },
        {"processor_class": "Lfm2VlProcessor"},
    ),
    "nemotron_h_omni": (
        {
            "image_processor_type": "NemotronH_Omni_Reasoning_V3ImageProcessor",
            "patch_size": 4,
            "downsample_ratio": 0.5,
            "min_num_patches": 16,
            "max_num_patches": 64,
            "norm_mean": [0.5, 0.5, 0.5],
            "norm_std": [0.25, 0.25, 0.25],
        },
        {},
    ),
    "minicpmv4_6": (
        {
            "image_processor_type": "MiniCPMV4_6ImageProcessor",
            "patch_size": 4,
            "scale_resolution": 32,
            "max_slice_nums": 4,
            "downsample_mode": "16x",
        },
        {"processor_class": "MiniCPMV4_6Processor"},
    ),
}
HERE = (*SAVED, *OFFICIAL)
DEEPER: dict[str, dict[str, Any]] = {  # so that a layer tells its score early, and four do
    "lfm2_vl": {"num_hidden_layers": 12, "full_attn_idxs": [2, 5, 8, 10]},
    "nemotron_h_omni": {"hybrid_override_pattern": "MEMEM*EMEM*E"},
}


def tokenizer(special: dict[str, str]) -> Any:
    """A token for each byte, then the special ones."""
    vocabulary = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bare = Tokenizer(models.BPE(vocabulary, []))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=bare, eos_token="<end>", pad_token="<pad>", extra_special_tokens=special
    )


def pictures(name: str, pixels: int) -> Any:
    """The family's image processor: 16 visual tokens of a square picture, 88 of LLaVA-OneVision's; Qwen's has at most
    so many pixels, 64 a token.
    """
    if name == "internvl":
        return GotOcr2ImageProcessorPil(size={"height": 32, "width": 32}, crop_to_patches=False, max_patches=1)
    if name == "llava_onevision":
        return LlavaOnevisionImageProcessorPil(
            size={"height": 16, "width": 16}, image_grid_pinpoints=[[16, 16], [32, 32]]
        )
    return Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, temporal_patch_size=2, min_pixels=64, max_pixels=pixels)


def write(folder: Path, name: str, pixels: int = 1024, **text: Any) -> Path:
    """A model and its processor in a folder.

    Args:
        folder: is made.
        name: of the family, one of `HERE`.
        pixels: of a picture, at most, for Qwen's families.
        text: settings of the text model beside the family's.
    """
    special = SPECIAL.get(name, QWEN)
    words = tokenizer(special)
    known, image = {"vocab_size": 288}, special.get("image_token", special.get("context_image_token"))
    if words.eos_token_id is not None:
        known |= {"eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    sizes, vision, more = FAMILIES[name].config
    config = transformers.AutoConfig.for_model(
        name,
        text_config={**sizes, **known, **DEEPER.get(name, {}), **text},
        vision_config=vision,
        image_token_id=words.convert_tokens_to_ids(image),
        **more,
    )
    model = random(name, config)
    model.generation_config.suppress_tokens = list(range(257, len(words)))
    model.save_pretrained(folder)
    template = TEMPLATE.replace("IMAGE", image or "")
    if name in OFFICIAL:
        publish(folder, words, template, *OFFICIAL[name])
        return folder
    kind: Any = pictures_only(name)
    kind(
        image_processor=pictures(name, pixels), tokenizer=words, chat_template=template, **MORE.get(name, {})
    ).save_pretrained(folder)
    return folder


def republish(folder: Path, name: str) -> None:
    """A folder that transformers saved in the published layout: a file for pictures, videos and the processor each."""
    pixels, processor = PUBLISHED[name]
    kind = processor["processor_class"].replace("Processor", "VideoProcessor")
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    (folder / "video_preprocessor_config.json").write_text(json.dumps({"video_processor_type": kind}))
    (folder / "processor_config.json").write_text(json.dumps(processor))


def publish(folder: Path, words: Any, template: str, pixels: Mapping[str, Any], processor: Mapping[str, Any]) -> None:
    """A processor's files as they lie in published repositories."""
    words.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(template)
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    if processor:
        (folder / "processor_config.json").write_text(json.dumps(processor))


def random(name: str, config: Any, seed: int = 0) -> Any:
    """A random model of this configuration, loud as those of `families`."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForImageTextToText.from_config(config).eval()
    for key, weight in model.named_parameters():
        weight.requires_grad_(False)
        if weight.ndim > 1 and "conv" not in key:
            weight.mul_(FAMILIES[name].loud)
    return model
