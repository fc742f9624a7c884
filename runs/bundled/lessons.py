"""Batches to learn from: pictures drawn on the fly, many questions each, and what lies under every patch.

A batch is a forest (see `scan.py`): each image is a root, each question branches from its image's state, so that no
question sees another's answer and a training row is exactly what the model meets when it is used.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, count

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import IterableDataset

from bundled.vocabulary import EOS
from deltaprune.benchmarks.scenes import SKILLS, Question, Scene, scene_seed
from deltaprune.benchmarks.scenes.world import SIDE
from deltaprune.models._mllm import MLLMConfig
from deltaprune.models._prompts import TEMPLATES

PATCH_CLASSES = {"color": 8, "shape": 6, "glyph": 37}
WEIGHTS = {"existence": 1.5, "attribute": 2.0, "spatial": 1.5, "counting": 1.5, "reading": 1.0, "unanswerable": 1.0}


@dataclass
class Lesson:
    """One batch of roots (G pictures, or captions when G = 0) and their questions; S segments, T packed rows."""

    pixels: Tensor  # (G, 3, H, W) float32 in [0, 1]
    ids: Tensor  # (rows of text,) token ids, text after text
    targets: Tensor  # (rows of text,) the next token where it belongs to an answer, else -100
    skill: Tensor  # (rows of text,) index of the skill, for the log
    order: Tensor  # (T,) row of [all image rows; all text rows] that stands at each packed place
    cu_seqlens: Tensor  # (S + 1,) int32
    parent: Tensor  # (S,) int32, -1 for a root
    patches: dict[str, Tensor]  # (G * P,) class of what lies under each patch


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """Everything in a scene in words, in random order: size, colour, shape, column and row (0 to 9)."""
    cells = [(t, int(t.x * 10 / SIDE), int(t.y * 10 / SIDE)) for t in scene.things]
    parts = [f" {t.size} {t.color} {t.shape}{x}{y}" for t, x, y in cells]
    parts += [f" sign{scene.sign.text}"] if scene.sign else []
    return "".join(parts[i] for i in rng.permutation(len(parts)))


class Lessons(IterableDataset):
    """An endless stream of lessons from the training seeds.

    Args:
        config, tokenizer: of the model.
        roots: pictures or captions per lesson.
        questions: per root.
        captions: how many of `of` lessons show captions in place of pictures. They teach the LM to look a thing up and
            to compare places where that is easy, in words; a published MLLM's LM has learned that from text, too.
        start: pictures seen before, so that a run can be taken up.
    """

    def __init__(
        self,
        config: MLLMConfig,
        tokenizer: Tokenizer,
        roots: int,
        questions: int,
        captions: tuple[int, int] = (0, 1),
        start: int = 0,
    ):
        self.config, self.tokenizer = config, tokenizer
        self.roots, self.questions, self.captions, self.start = roots, questions, captions, start

    def __iter__(self) -> Iterator[Lesson]:
        torch.set_num_threads(1)
        worker = torch.utils.data.get_worker_info()
        lane, lanes = (0, 1) if worker is None else (worker.id, worker.num_workers)
        first = self.start + lane * self.roots
        for turn in count():
            some, of = self.captions
            yield self.lesson(range(first, first + self.roots), turn % of >= some, chained=turn % 2 == 1)
            first += lanes * self.roots

    def lesson(self, indices: range, shown: bool = True, chained: bool = False) -> Lesson:
        """The lesson on these scenes of the training stream, shown as pictures or told as captions.

        Its questions branch from the root, or follow each other in one chain: then a later question can be answered
        from an earlier answer, too, which is easier and teaches looking things up.
        """
        forest = Forest(self.tokenizer, TEMPLATES[self.config.template], self.config.n_visual if shown else 0)
        grid = round(self.config.n_visual**0.5)
        size = next(iter(self.config.towers.values())).image_size
        pixels: list[np.ndarray] = [np.zeros((0, size, size, 3), dtype=np.float32)]
        patches: dict[str, list[np.ndarray]] = {name: [np.zeros(0, dtype=np.int64)] for name in PATCH_CLASSES}
        for index in indices:
            seed = scene_seed("train", 0, index)
            scene, rng = Scene.from_seed(seed), np.random.default_rng([seed, 1])
            if shown:
                pixels.append(np.asarray(scene.image.resize((size, size), 3), dtype=np.float32)[None] / np.float32(255))
                for name, labels in scene.patch_labels(grid).items():
                    if name in patches:
                        patches[name].append(labels)
            grow = forest.chain if chained else forest.plant
            grow("" if shown else caption(scene, rng), scene.questions(rng, self.questions, WEIGHTS))
        return Lesson(
            pixels=torch.from_numpy(np.concatenate(pixels)).permute(0, 3, 1, 2).contiguous(),
            patches={name: torch.from_numpy(np.concatenate(rows)).long() for name, rows in patches.items()},
            **forest.tensors(),
        )


class Forest:
    """Packs roots and the questions that branch from them."""

    def __init__(self, tokenizer: Tokenizer, template: Callable[[str], str], n_visual: int):
        self.tokenizer, self.template, self.n_visual = tokenizer, template, n_visual
        self.eos: int = tokenizer.encode(EOS).ids[0]
        self.ids: list[int] = []
        self.targets: list[int] = []
        self.skill: list[int] = []
        self.segments: list[tuple[int, int]] = []  # (image rows, text rows) of each segment
        self.parent: list[int] = []

    def plant(self, caption: str, questions: Sequence[Question]) -> None:
        """A root (an image's rows, or a caption) and its questions."""
        root = len(self.segments)
        self._add(self.encode(caption), [], -1, 0, self.n_visual)
        for question in questions:
            prompt, answer = self.encode(self.template(question.text)), self.encode(question.answer)
            self._add(prompt, answer, root, SKILLS.index(question.skill), 0)

    def chain(self, caption: str, questions: Sequence[Question]) -> None:
        """A root with its questions and answers behind each other, as in a conversation of many turns."""
        rows = self.encode(caption)
        targets, skills = [-100] * len(rows), [0] * len(rows)
        for question in questions:
            prompt, answer = self.encode(self.template(question.text)), self.encode(question.answer)
            rows += [*prompt, *answer, self.eos]
            targets += [-100] * (len(prompt) - 1) + [*answer, self.eos, -100]
            skills += [SKILLS.index(question.skill)] * (len(prompt) + len(answer) + 1)
        self.ids, self.targets, self.skill = self.ids + rows, self.targets + targets, self.skill + skills
        self.segments.append((self.n_visual, len(rows)))
        self.parent.append(-1)

    def encode(self, text: str) -> list[int]:
        """Token ids."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def _add(self, prompt: list[int], answer: list[int], parent: int, skill: int, image_rows: int) -> None:
        rows = prompt + answer
        self.ids += rows
        self.targets += [-100] * (len(prompt) - 1) + [*answer, self.eos] if answer else [-100] * len(rows)
        self.skill += [skill] * len(rows)
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
