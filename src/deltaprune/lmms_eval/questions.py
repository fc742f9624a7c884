"""lmms-eval's documents -> questions, gathered so that a picture is encoded once and a run is wide.

Nothing here needs lmms-eval.
"""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any

from PIL import Image

from deltaprune.checks import check_at_least_one
from deltaprune.errors import UserError, did_you_mean
from deltaprune.hosted.processor import HostedProcessor
from deltaprune.mllm.pictures import read_picture
from deltaprune.mllm.processor import Processor
from deltaprune.mllm.prompts import parts

AnyProcessor = Processor | HostedProcessor
WINDOW = 256  # questions held in memory at once; those about one picture find each other within it
MAX_NEW_TOKENS = 128  # where a task sets none, as in Cobra's own harness (vlm_eval/models/cobra.py)
NEUTRAL = {
    "num_beams": 1,
    "repetition_penalty": 1,
    "num_return_sequences": 1,
}  # the values that do nothing
NOT_OURS = ("image_aspect_ratio",)  # how LLaVA cuts pictures into tiles; our models resize each as they were trained to

log = logging.getLogger(__name__)
Picture = list["Question"]  # questions about the same picture, or about none


@dataclass(frozen=True)
class Decoding:
    """How an answer is read off the model; greedy unless `do_sample`.

    Attributes:
        max_new_tokens, do_sample, temperature, top_k, top_p: as in `VLM.generate`.
        until: the answer ends before the first of these texts.
    """

    max_new_tokens: int = MAX_NEW_TOKENS
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    until: tuple[str, ...] = ()

    def cut(self, answer: str) -> str:
        """The answer up to the first of `until`; it may be empty."""
        ends = [answer.find(stop) for stop in self.until if stop in answer]
        return answer[: min(ends, default=len(answer))].strip()


@dataclass(frozen=True)
class Question:
    """One request.

    Attributes:
        place: where its answer goes.
        prompt: in the model's template.
        decoding: how it is answered.
        image: RGB, or None where the task shows none.
        key: the same for the same picture.
    """

    place: int
    prompt: str
    decoding: Decoding
    image: Image.Image | None = field(repr=False, compare=False)
    key: str


def read_requests(
    requests: Iterable[tuple], documents: Mapping[str, Any], processor: AnyProcessor
) -> Iterator[Question]:
    """A chat task's requests -> questions, each document read when it is asked for.

    Args:
        requests: `(context, doc_to_messages, gen_kwargs, doc_id, task, split)`, as `construct_requests` of
            lmms_eval/api/task.py makes them; the context is not read, the messages say it too.
        documents: `documents[task][split][doc_id]`.
        processor: whose template.

    Raises:
        UserError: a document or setting the model cannot answer, by name.
    """
    for place, (_, doc_to_messages, gen_kwargs, doc_id, task, split) in enumerate(requests):
        try:
            decoding = read_decoding(gen_kwargs)
            prompt, image = read_messages(doc_to_messages(documents[task][split][doc_id]), processor)
        except UserError as error:
            raise UserError(f"Task {task!r}, document {doc_id} of {split!r}: {error}") from error
        yield Question(place, prompt, decoding, image, picture_key(image))


def read_decoding(gen_kwargs: Mapping[str, Any]) -> Decoding:
    """A task's generation_kwargs -> `Decoding`.

    Sampling needs a temperature above 0 and no `do_sample: false`. Without sampling its settings are not looked at:
    many tasks write `top_p: 0` beside `temperature: 0`.

    Raises:
        UserError: an unknown name, or a value that cannot be had.
    """
    known = {"max_new_tokens", "do_sample", "temperature", "top_p", "top_k", "until", *NEUTRAL, *NOT_OURS}
    for name, value in gen_kwargs.items():
        if name not in known:
            raise UserError(f"There is no generation setting {name!r}: {did_you_mean(name, known)}.")
        if name in NEUTRAL and value not in (None, NEUTRAL[name]):
            raise UserError(f"{name}={value!r} is not supported: leave it out or set it to {NEUTRAL[name]}.")
        if name in NOT_OURS:
            _set_aside(name, repr(value))
    given = {name: value for name, value in gen_kwargs.items() if value is not None}
    longest = given.get("max_new_tokens", MAX_NEW_TOKENS)
    check_at_least_one("max_new_tokens", longest)
    until = _texts(given.get("until", ()))
    temperature = given.get("temperature", 1.0 if given.get("do_sample") else 0.0)
    if not (given.get("do_sample", True) and temperature > 0):
        return Decoding(longest, until=until)
    return Decoding(longest, True, temperature, given.get("top_k", 0), given.get("top_p", 1.0), until)


def read_messages(messages: Sequence[Mapping[str, Any]], processor: AnyProcessor) -> tuple[str, Image.Image | None]:
    """A task's chat -> the prompt and the picture it is about, if any.

    Args:
        messages: `{"role": ..., "content": [...]}`, with parts such as `{"type": "image", "url": picture or path}`.
        processor: whose template.

    Raises:
        UserError: a chat that the template cannot hold, several pictures, video, sound, or an unreadable picture.
    """
    chat = [{"role": message.get("role"), "content": [_bare(part) for part in parts(message)]} for message in messages]
    prompt = processor.prompt(chat)
    sources = [part.get("url") for message in messages for part in parts(message) if part["type"] != "text"]
    if not sources:
        return prompt, None
    if len(sources) > 1:
        raise UserError(f"The chat has {len(sources)} images: there can be one.")
    return prompt, read_picture(sources[0])


def picture_key(image: Image.Image | None) -> str:
    """A name for a picture's content."""
    if image is None:
        return ""
    return hashlib.sha256(repr((image.size, image.mode)).encode() + image.tobytes()).hexdigest()


def batches(questions: Iterable[Question], size: int) -> Iterator[list[Picture]]:
    """Pictures with all their questions, about `size` questions at a time, all of them decoded alike.

    A batch has more than `size` questions only where a single picture has. Questions are taken `WINDOW` at a time, so
    that no more pictures are held: one that comes again further away is encoded again.
    """
    coming = iter(questions)
    while window := list(islice(coming, max(WINDOW, size))):
        alike: dict[Any, dict[str, Picture]] = defaultdict(lambda: defaultdict(list))
        for question in window:
            alike[question.decoding, question.image is None][question.key].append(question)
        for pictures in alike.values():
            yield from _pack(pictures.values(), size)


def _pack(pictures: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    """Whole pictures, as many as fit."""
    batch: list[Picture] = []
    for picture in pictures:
        if batch and sum(map(len, batch)) + len(picture) > size:
            yield batch
            batch = []
        batch.append(picture)
    yield batch


@lru_cache
def _set_aside(name: str, value: str) -> None:
    """Warn once that a setting is ignored."""
    log.warning("%s=%s is ignored: this model resizes every picture for its towers.", name, value)


def _bare(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """A part that only marks the place of a picture."""
    return part if part["type"] == "text" else {"type": part["type"]}


def _texts(until: Any) -> tuple[str, ...]:
    """One or several texts; an empty one ends nothing."""
    texts = [until] if isinstance(until, str) else list(until)
    for text in texts:
        if not isinstance(text, str):
            raise UserError(f"until={until!r} is not possible: it is a text or a list of texts.")
    return tuple(text for text in texts if text)
