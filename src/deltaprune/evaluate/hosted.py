"""The worker of a transformers model: every question is read with its picture, in padded batches."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

import torch

from deltaprune.benchmarks import FirstToken, Greedy, Protocol, Sample, Sampled
from deltaprune.errors import UserError, in_words
from deltaprune.evaluate.decoding import by_first_token, sampling
from deltaprune.evaluate.units import FAILURES, Answer, Done, Unit
from deltaprune.hosted.config import HostedConfig
from deltaprune.hosted.model import Hosted
from deltaprune.hosted.processor import HostedProcessor
from deltaprune.mllm.processor import Inputs
from deltaprune.steps import Method

COUNTED = 8  # pictures from which the mean numbers of tokens are taken
_LOG = logging.getLogger("deltaprune.evaluate")


@dataclass(frozen=True)
class HostedWorker:
    """Answers units, as `work.Worker` does; a picture is encoded again for every question and method.

    Args:
        vlm, processor: from `load`.
        rules: the benchmark's protocol.
        methods: all methods of the run.
        batch_size: questions that run at once, at most.
    """

    vlm: Hosted
    processor: HostedProcessor
    rules: Protocol
    methods: tuple[Method, ...]
    batch_size: int = 32

    def answer(self, unit: Unit) -> Iterator[Done]:
        """Each pending method's answers. A sample that fails does not affect the others."""
        for place in unit.methods:
            start, answers = time.perf_counter(), list[Answer]()
            for first in range(0, len(unit.samples), self.batch_size):
                answers += self._try(self.methods[place], unit.samples[first : first + self.batch_size])
            yield Done(place, tuple(answers), 1000 * (time.perf_counter() - start))

    def _try(self, method: Method, samples: Sequence[Sample]) -> list[Answer]:
        """Ask all at once; if that fails, one by one, to find the sample that fails."""
        try:
            return self._ask(method, samples)
        except FAILURES as error:
            if len(samples) == 1:
                return [Answer(samples[0].id, "", error=in_words(error))]
            _LOG.warning("%s: trying the questions one by one", in_words(error))
            return [each for sample in samples for each in self._try(method, [sample])]

    def _ask(self, method: Method, samples: Sequence[Sample]) -> list[Answer]:
        """One method's answers, the way the protocol reads them."""
        vlm, decoding = self.vlm, self.rules.decoding
        if isinstance(decoding, Sampled):
            return [self._drawn(method, sample, decoding) for sample in samples]
        inputs = prompts(self.processor, self.rules, samples)
        if isinstance(decoding, FirstToken):
            return by_first_token(self.processor, decoding, samples, vlm.next_logits(vlm.start(inputs, method)))
        assert isinstance(decoding, Greedy)
        texts = self.processor.batch_decode(vlm.answer(inputs, decoding.max_new_tokens, method=method).ids)
        return [Answer(sample.id, text) for sample, text in zip(samples, texts, strict=True)]

    def _drawn(self, method: Method, sample: Sample, decoding: Sampled) -> Answer:
        """A sampled answer, the same in every run."""
        sampler = sampling(decoding, sample, torch.device("cpu"))
        inputs = prompts(self.processor, self.rules, [sample])
        ids = self.vlm.answer(inputs, decoding.max_new_tokens, sampler, method=method).ids
        return Answer(sample.id, self.processor.decode(ids[0]))


def prompts(processor: HostedProcessor, rules: Protocol, samples: Sequence[Sample]) -> Inputs:
    """Questions with their pictures, in the model's own chat template."""
    return processor(images=[sample.image for sample in samples], text=[rules.message(sample) for sample in samples])


def counted(
    vlm: Hosted, processor: HostedProcessor, rules: Protocol, samples: Sequence[Sample]
) -> tuple[HostedConfig, float]:
    """The configuration for pictures of this size, and the mean text tokens of a prompt, from some pictures."""
    firsts = [next(about_one) for _, about_one in groupby(samples, key=lambda sample: sample.image_id)]
    visual, text = list[int](), list[int]()
    for sample in firsts[:COUNTED]:
        try:
            ids = prompts(processor, rules, [sample])["input_ids"]
        except FAILURES:
            continue  # a picture that cannot be read is named with the answers
        visual.append(int(vlm.is_visual(ids).sum()))
        text.append(ids.shape[1] - visual[-1])
    if not visual:
        raise UserError(
            f"None of the first {len(firsts[:COUNTED])} pictures can be read: look at the benchmark's files."
        )
    return vlm.config.with_visual(round(fmean(visual))), fmean(text)
