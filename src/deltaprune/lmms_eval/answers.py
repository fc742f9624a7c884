"""Questions -> answers on a model: a picture with several questions is run once, and each goes on from there."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, cast

import torch

from deltaprune.hosted.model import Hosted
from deltaprune.hosted.processor import HostedProcessor
from deltaprune.lmms_eval.questions import Decoding, Picture, Question, batches
from deltaprune.mllm.processor import Processor
from deltaprune.prefix import ImagePrefix
from deltaprune.vlm import VLM


def answer(vlm: VLM, processor: Processor, questions: Iterable[Question], size: int) -> Iterator[tuple[int, str]]:
    """Each question's place and its answer, in the order in which they are found; the active method prunes.

    Args:
        vlm, processor: what `load` gave.
        questions: read as they are needed.
        size: questions that run at once.
    """
    for batch in batches(questions, size):
        if isinstance(vlm, Hosted):
            yield from _each(vlm, cast(Any, processor), batch, size)
            continue
        images = [picture[0].image for picture in batch if picture[0].image is not None]
        if 0 < len(images) < sum(map(len, batch)):
            yield from _ask(vlm, processor, batch, size, {}, vlm.encode_image(images))
        else:  # one question about each picture, or none to look at: a pass of its own for the pictures saves nothing
            yield from _ask(vlm, processor, batch, size, processor.encode_images(images) if images else {})


def _each(vlm: Hosted, processor: HostedProcessor, batch: list[Picture], size: int) -> Iterator[tuple[int, str]]:
    """The questions of one batch on a transformers model, each with its picture."""
    asked = (question for picture in batch for question in picture)
    while part := list(islice(asked, size)):
        pictures = [question.image for question in part if question.image is not None]
        inputs, decoding = processor.encode([question.prompt for question in part], pictures), part[0].decoding
        ids = vlm.generate(**_sampling(decoding), **inputs)
        for question, text in zip(part, processor.batch_decode(ids), strict=True):
            yield question.place, decoding.cut(text)


def _sampling(decoding: Decoding) -> dict[str, Any]:
    """The settings that `generate` takes."""
    names = ("max_new_tokens", "do_sample", "temperature", "top_k", "top_p")
    return {name: getattr(decoding, name) for name in names}


def _ask(
    vlm: VLM,
    processor: Processor,
    batch: list[Picture],
    size: int,
    pixels: Mapping[str, Any],
    prefix: ImagePrefix | None = None,
) -> Iterator[tuple[int, str]]:
    """The questions of one batch, at most `size` at a time, with their pictures as pixels or run already."""
    asked = ((i, question) for i, picture in enumerate(batch) for question in picture)
    while part := list(islice(asked, size)):
        inputs = processor.encode_prompts([question.prompt for _, question in part])
        if pixels or prefix is not None:
            inputs.update(pixels, image_index=torch.tensor([i for i, _ in part]))
        decoding = part[0][1].decoding
        ids = vlm.generate(**_sampling(decoding), prefix=prefix, **inputs.to(vlm.device))
        for (_, question), text in zip(part, processor.batch_decode(ids), strict=True):
            yield question.place, decoding.cut(text)
