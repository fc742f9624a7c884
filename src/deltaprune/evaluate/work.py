"""The worker of a `VLM`: it answers a unit, a few whole pictures with all their questions, under several methods.

A picture is encoded once for all its questions and all methods, but anew for a method that shrinks it.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

import torch
from torch import Tensor

from deltaprune.benchmarks import FirstToken, Greedy, Protocol, Sample, Sampled
from deltaprune.errors import in_words
from deltaprune.evaluate.decoding import by_first_token, sampling
from deltaprune.evaluate.units import FAILURES, Answer, Done, Unit
from deltaprune.mllm.processor import Inputs, Processor
from deltaprune.prefill import Prefilled
from deltaprune.steps import Method, side_of
from deltaprune.vlm import VLM

Read = tuple[list[Sample], Inputs]  # the samples of one picture, and its pixels
_LOG = logging.getLogger("deltaprune.evaluate")


@dataclass(frozen=True)
class Seen:
    """The pictures of a unit as the methods see them that shrink them to one size, or not at all.

    Attributes:
        parts: pictures and their visual tokens `(I, P, d_model)`.
        failed: why the others have none, by sample.
        seconds: what it took, as a share for each method.
    """

    parts: list[tuple[list[Read], Tensor]]
    failed: dict[str, str]
    seconds: float


@dataclass(frozen=True)
class Worker:
    """Answers units. It can be sent to another process.

    Args:
        vlm, processor: what `load` gave.
        rules: the benchmark's protocol.
        methods: all that take part.
        batch_size: questions that run at once, at most.
        prefix: run a picture once for all its questions; otherwise each question runs it anew.
    """

    vlm: VLM
    processor: Processor
    rules: Protocol
    methods: tuple[Method, ...]
    batch_size: int = 32
    prefix: bool = True

    def answer(self, unit: Unit) -> Iterator[Done]:
        """Each pending method's answers. A sample that fails does not affect the others."""
        pictures = [list(about_one) for _, about_one in groupby(unit.samples, key=lambda sample: sample.image_id)]
        start = time.perf_counter()
        failed: dict[str, str] = {}
        read = []
        for picture in pictures:
            try:
                read.append((picture, self.processor.encode_images([picture[0].image])))
            except FAILURES as error:
                failed |= {sample.id: in_words(error) for sample in picture}
        shared = (time.perf_counter() - start) / len(unit.methods)
        sides = {place: side_of(self.methods[place].checked_steps(self.vlm.shape)) for place in unit.methods}
        seen: dict[int | None, Seen] = {}
        for place, side in sides.items():
            if side not in seen:
                start, lost = time.perf_counter(), dict(failed)
                parts = self._see(self.methods[place], read, lost) if read else []
                seconds = (time.perf_counter() - start) / list(sides.values()).count(side)
                seen[side] = Seen(parts, lost, shared + seconds)
            start = time.perf_counter()
            answers = {name: Answer(name, "", error=why) for name, why in seen[side].failed.items()}
            for part, visual in seen[side].parts:
                keys = torch.cat([inputs["image_key"] for _, inputs in part])
                asked = [picture for picture, _ in part]
                answers |= {each.id: each for each in self._try(self.methods[place], asked, visual, keys)}
            ms = 1000 * (time.perf_counter() - start + seen[side].seconds)
            yield Done(place, tuple(answers[sample.id] for sample in unit.samples), ms)

    @torch.no_grad()
    def _see(self, method: Method, read: list[Read], failed: dict[str, str]) -> list[tuple[list[Read], Tensor]]:
        """Pictures and their visual tokens `(I, P, d_model)`: all at once; where that fails, one by one.

        Args:
            method: which may shrink them.
            read: pictures and their pixels.
            failed: takes the samples of a picture that fails alone.
        """
        try:
            joined = Inputs({key: torch.cat([inputs[key] for _, inputs in read]) for key in read[0][1]})
            visual = self.vlm.see(joined.to(self.vlm.device), method)
        except FAILURES as error:
            if len(read) > 1:
                _LOG.warning("%s: encoding the pictures one by one", in_words(error))
                return [seen for each in read for seen in self._see(method, [each], failed)]
            failed |= {sample.id: in_words(error) for sample in read[0][0]}
            return []
        assert visual is not None
        return [(read, visual)]

    def _try(self, method: Method, pictures: list[list[Sample]], visual: Tensor, keys: Tensor) -> list[Answer]:
        """Ask all at once; if that fails, by picture, then by question, to find the one that fails."""
        try:
            return self._ask(method, pictures, visual, keys)
        except FAILURES as error:
            if len(pictures) > 1:
                _LOG.warning("%s: trying the pictures one by one", in_words(error))
                alone = [
                    self._try(method, [picture], visual[i : i + 1], keys[i : i + 1])
                    for i, picture in enumerate(pictures)
                ]
                return [each for answers in alone for each in answers]
            if len(pictures[0]) > 1:
                return [each for sample in pictures[0] for each in self._try(method, [[sample]], visual, keys)]
            return [Answer(pictures[0][0].id, "", error=in_words(error))]

    @torch.no_grad()
    def _ask(self, method: Method, pictures: list[list[Sample]], visual: Tensor, keys: Tensor) -> list[Answer]:
        """One method's answers to all questions about some pictures, in packed batches."""
        samples = [sample for picture in pictures for sample in picture]
        index = torch.tensor([i for i, picture in enumerate(pictures) for _ in picture])
        answers = []
        with method(self.vlm):
            several = self.prefix and len(samples) > len(pictures)
            prefix = self.vlm.encode_image({"image_key": keys}, visual) if several else None
            for start in range(0, len(samples), self.batch_size):
                part = slice(start, start + self.batch_size)
                text = self.processor.encode_text([self.rules.message(sample) for sample in samples[part]])
                inputs = Inputs(**text, image_index=index[part]).to(self.vlm.device)
                if prefix is not None:
                    prefilled = self.vlm.start(inputs, prefix)
                else:
                    prefilled = self.vlm.start(Inputs(**inputs, image_key=keys), visual=visual)
                answers += self._read(samples[part], prefilled)
        return answers

    def _read(self, samples: list[Sample], prefilled: Prefilled) -> list[Answer]:
        """Decode answers from a prefilled model as the protocol says."""
        vlm, decoding = self.vlm, self.rules.decoding
        if isinstance(decoding, FirstToken):
            return by_first_token(self.processor, decoding, samples, vlm.next_logits(prefilled))
        if isinstance(decoding, Greedy):
            ids = vlm.continue_from(prefilled, decoding.max_new_tokens)
            texts = self.processor.batch_decode(ids)
            return [Answer(sample.id, text) for sample, text in zip(samples, texts, strict=True)]
        assert isinstance(decoding, Sampled)
        answers = []
        for row, sample in enumerate(samples):
            sampler = sampling(decoding, sample, vlm.device)
            alone = prefilled.repeat(torch.tensor([row], device=vlm.device))
            (text,) = self.processor.batch_decode(vlm.continue_from(alone, decoding.max_new_tokens, sampler))
            answers.append(Answer(sample.id, text))
        return answers


def mean_text_tokens(processor: Processor, prompts: Sequence[str]) -> float:
    """Mean tokens of prompts in the model's template; not all are held as tokens at once, a benchmark has 200,000."""
    parts = (prompts[start : start + 1024] for start in range(0, len(prompts), 1024))
    encoded = (processor.tokenizer.encode_batch(list(part), add_special_tokens=False) for part in parts)
    return fmean(len(each.ids) for part in encoded for each in part)
