"""Batches to learn from: pictures drawn on the fly, many questions each, and what lies under every patch.

A batch is a forest (see `scan.py`): each image is a root, each question or drill branches from its image's state, so
that none sees another's answer and a training row is exactly what the model meets when it is used.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, count

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import IterableDataset

from deltaprune.benchmarks.scenes import SKILLS, Question, Scene, scene_seed
from deltaprune.mllm.network import MLLMConfig
from deltaprune.mllm.prompts import ask_in
from deltaprune.mllm.templates import template_text
from training.drills import FORMS, Drill, drills
from training.frames import Framed, full, varied
from training.recipe import SCENES
from training.vocabulary import EOS

PATCH_CLASSES = {"color": 8, "shape": 6, "glyph": 37, "column": 11, "row": 11}
WEIGHTS = {"existence": 1.5, "attribute": 1.5, "spatial": 2.0, "counting": 2.0, "reading": 1.0, "unanswerable": 1.0}
KINDS = (*SKILLS, *(f"drill {form}" for form in FORMS))  # what a row of text belongs to, for the log


@dataclass
class Lesson:
    """One batch of G pictures, their questions and drills; S segments, T packed rows."""

    pixels: Tensor  # (G, 3, H, W) float32 in [0, 1]
    ids: Tensor  # (rows of text,) token ids, text after text
    targets: Tensor  # (rows of text,) the next token where it belongs to an answer, else -100
    skill: Tensor  # (rows of text,) index into KINDS, for the log
    order: Tensor  # (T,) row of [all image rows; all text rows] that stands at each packed place
    cu_seqlens: Tensor  # (S + 1,) int32
    parent: Tensor  # (S,) int32, -1 for a root
    patches: dict[str, Tensor]  # (G * P,) class of what lies under each patch
    inside: Tensor  # (G * P,) bool: the patches that enter the LM, all but the padding's


class Lessons(IterableDataset):
    """An endless stream of lessons from the training seeds.

    Args:
        config, tokenizer: of the model.
        pictures: per lesson.
        questions, drills: per picture, the drills at most.
        start: pictures seen before, so that a run can be taken up.
        vary_from: from which picture on sizes and shapes vary, see `frames.py`; None for never.
        split: of `scenes`.
    """

    def __init__(
        self,
        config: MLLMConfig,
        tokenizer: Tokenizer,
        pictures: int,
        questions: int,
        drills: int,
        start: int = 0,
        vary_from: int | None = None,
        split: str = "train",
    ):
        self.config, self.tokenizer = config, tokenizer
        self.pictures, self.questions, self.drills, self.start = pictures, questions, drills, start
        self.vary_from, self.split = vary_from, split

    def __iter__(self) -> Iterator[Lesson]:
        torch.set_num_threads(1)
        worker = torch.utils.data.get_worker_info()
        lane, lanes = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for first in count(self.start + lane * self.pictures, lanes * self.pictures):
            yield self.lesson(range(first, first + self.pictures))

    def lesson(self, indices: range) -> Lesson:
        """The lesson on these pictures of the training stream."""
        forest = Forest(self.tokenizer, partial(ask_in, template_text(self.config.template)))
        grid = round(self.config.n_visual**0.5)
        size = next(iter(self.config.towers.values())).image_size
        pixels: list[np.ndarray] = []
        inside: list[np.ndarray] = []
        patches: dict[str, list[np.ndarray]] = {name: [] for name in PATCH_CLASSES}
        for index in indices:
            seed = scene_seed(self.split, 0, index)
            scene, rng = Scene.from_seed(seed, SCENES), np.random.default_rng([seed, 1])
            frame = self.frame(scene, index, grid, rng)
            pixels.append(frame.pixels(size))
            inside.append(frame.inside.reshape(-1))
            labels = frame.labels()
            labels |= {"column": tenths(labels["x"]), "row": tenths(labels["y"])}
            for name, rows in patches.items():
                rows.append(labels[name])
            asked = scene.questions(rng, self.questions, WEIGHTS)
            forest.plant(int(frame.inside.sum()), asked, drills(frame.things, rng, self.drills))
        return Lesson(
            pixels=torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(),
            patches={name: torch.from_numpy(np.concatenate(rows)).long() for name, rows in patches.items()},
            inside=torch.from_numpy(np.concatenate(inside)),
            **forest.tensors(),
        )

    def frame(self, scene: Scene, index: int, grid: int, rng: np.random.Generator) -> Framed:
        """The picture in its frame; the early pictures of a run fill it."""
        return full(scene, grid) if self.vary_from is None or index < self.vary_from else varied(scene, grid, rng)


def tenths(centre: np.ndarray) -> np.ndarray:
    """Which tenth of the picture a thing's centre lies in, 1 to 10; 0 where there is no thing.

    Without these labels the towers forget where a patch is: what it shows can be named without knowing.
    """
    return np.where(np.isnan(centre), 0, 1 + np.nan_to_num(10 * centre).astype(np.int64))


class Forest:
    """Packs images and what branches from them."""

    def __init__(self, tokenizer: Tokenizer, template: Callable[[str], str]):
        self.tokenizer, self.template = tokenizer, template
        self.eos: int = tokenizer.encode(EOS).ids[0]
        self.ids: list[int] = []
        self.targets: list[int] = []
        self.skill: list[int] = []
        self.segments: list[tuple[int, int]] = []  # (image rows, text rows) of each segment
        self.parent: list[int] = []

    def plant(self, n_visual: int, questions: Sequence[Question], drills: Sequence[Drill]) -> None:
        """An image's rows, its questions and its drills. A drill's answer is not told to end."""
        root = len(self.segments)
        self._add([], [], -1, 0, n_visual)
        for question in questions:
            prompt, answer = self.encode(self.template(question.text)), [*self.encode(question.answer), self.eos]
            self._add(prompt, answer, root, KINDS.index(question.skill), 0)
        for drill in drills:
            self._add(self.encode(drill.text), self.encode(drill.answer), root, KINDS.index(f"drill {drill.form}"), 0)

    def encode(self, text: str) -> list[int]:
        """Token ids."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def _add(self, prompt: list[int], answer: list[int], parent: int, kind: int, image_rows: int) -> None:
        """One segment: every token is read but the last, which is only foretold."""
        rows = (prompt + answer)[:-1]
        self.ids += rows
        self.targets += ([-100] * len(prompt) + answer)[1:]
        self.skill += [kind] * len(rows)
        self.segments.append((image_rows, len(rows)))
        self.parent.append(parent)

    def tensors(self) -> dict[str, Tensor]:
        """The text, and where each row stands once packed."""
        images = sum(image for image, _ in self.segments)
        order, seen_image, seen_text = [], 0, images
        for image, text in self.segments:
            order += [np.arange(seen_image, seen_image + image), np.arange(seen_text, seen_text + text)]
            seen_image, seen_text = seen_image + image, seen_text + text
        lengths = [image + text for image, text in self.segments]
        return {
            "ids": torch.tensor(self.ids),
            "targets": torch.tensor(self.targets),
            "skill": torch.tensor(self.skill),
            "order": torch.from_numpy(np.concatenate(order)),
            "cu_seqlens": torch.tensor([0, *accumulate(lengths)], dtype=torch.int32),
            "parent": torch.tensor(self.parent, dtype=torch.int32),
        }
