"""How a protocol's decoding becomes answers: what a `VLM` and a transformers model have in common."""

import zlib
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.benchmarks import FirstToken, Sample, Sampled
from deltaprune.errors import UserError
from deltaprune.evaluate.units import Answer
from deltaprune.generate import Sampling
from deltaprune.hosted.processor import HostedProcessor
from deltaprune.mllm.processor import Processor


def by_first_token(
    processor: Processor | HostedProcessor,
    decoding: FirstToken,
    samples: Sequence[Sample],
    logits: Float[Tensor, "B V"],
) -> list[Answer]:
    """The likeliest choice of each sample, by the logits of its answer's first token.

    Raises:
        UserError: two choices begin with the same token.
    """
    ids = first_ids(processor, decoding.choices)
    answers = []
    for sample, row in zip(samples, logits[:, ids].softmax(-1).tolist(), strict=True):
        likely = dict(zip(decoding.choices, row, strict=True))
        answers.append(Answer(sample.id, max(likely, key=lambda name: likely[name]), likely))
    return answers


def sampling(decoding: Sampled, sample: Sample, device: torch.device) -> Sampling:
    """How a sample's answer is drawn: by its own generator on `device`, seeded by its id, so in every run the same."""
    generator = torch.Generator(device).manual_seed(zlib.crc32(sample.id.encode()))
    return Sampling(decoding.temperature, generator=generator)


def first_ids(processor: Processor | HostedProcessor, choices: Sequence[str]) -> list[int]:
    """The first token of each choice.

    Raises:
        UserError: two choices begin with the same token.
    """
    ids = [processor.tokenizer.encode(choice, add_special_tokens=False).ids[0] for choice in choices]
    if len(set(ids)) < len(ids):
        raise UserError(
            f"The choices {', '.join(choices)} begin with the same token of this model, so the first token "
            "cannot tell them apart: take a protocol that reads text."
        )
    return ids
