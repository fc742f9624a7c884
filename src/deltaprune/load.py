"""From a name, a folder or a file to a model and its processor."""

from pathlib import Path
from typing import cast

import torch

from deltaprune.checkpoints.checkpoint import build
from deltaprune.checkpoints.parts import Towers, refuse_parts
from deltaprune.checkpoints.sources import open_source
from deltaprune.errors import UserError
from deltaprune.hosted.recognise import is_hosted
from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM


def load(
    source: str | Path = "bundled",
    *,
    towers: Towers | None = None,
    tokenizer: str | Path | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    quantize: str | None = None,
) -> tuple[VLM, Processor]:
    """A model and its processor.

    Args:
        source: a known name ("bundled", "cobra", "robomamba"); an id of the Hub ("han1997/cobra"); a folder in Cobra's
            published layout (config.json and checkpoints/latest-checkpoint.pt); RoboMamba's .pth; a model folder,
            as `deltaprune convert` writes it; or the folder of a transformers model of a family that `inplace` can
            prune, which gives a `Hosted`, with the same methods as a `VLM`, and a `HostedProcessor`.
        towers: the vision towers that a published checkpoint lacks: a folder of dino.safetensors, siglip.safetensors
            (or .pt), or a mapping from these names to files. By default they are searched for next to the checkpoint,
            then on the Hub.
        tokenizer: a tokenizer.json or its folder, likewise.
        dtype: of the weights, "float32", "bfloat16" or "float16"; by default that of the checkpoint. The weights that
            the LM uses in float32 (A, D, dt's bias, the norms) stay in float32.
        device: the CPU by default. "auto" takes a GPU if there is one, else the CPU.
        quantize: "int8" or "int4" quantizes the LM's large matrices as they are read, for the CPU; towers, projector
            and what the step sizes come from keep their dtype. A folder that `convert --quantize` wrote is loaded
            without it.

    Raises:
        UserError: no such model; a file that is missing, damaged or holds code; tensors that do not fit, by name; NaN.
    """
    if not isinstance(source, str | Path):
        raise UserError(f"load was given an object of type {type(source).__name__}: give a name, a folder or a file.")
    if is_hosted(source):
        from deltaprune.hosted.folder import load_hosted

        refuse_parts(f"The model folder {source}", towers, tokenizer)
        if quantize is not None:
            raise UserError(
                f"quantize={quantize!r} is for models that this library runs itself, such as Cobra: {source} is a "
                "model of transformers' own, so load it with dtype='bfloat16' instead."
            )
        return cast(tuple[VLM, Processor], load_hosted(source, dtype, device))
    checkpoint = open_source(source, towers, tokenizer)
    checkpoint = checkpoint if quantize is None else checkpoint.quantized(quantize)
    model = build(checkpoint, dtype, device)
    processor = Processor(checkpoint.config, checkpoint.tokenizer, chat_template=checkpoint.chat_template)
    return VLM(model, processor.eos_id), processor
