"""Batches to learn from: pictures drawn on the fly, many questions each, and what lies under every patch.

A batch is a forest (see `scan.py`): each image is a root, each question branches from its image's state, so that no
question sees another's answer and a training row is exactly what the model meets when it is used.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import IterableDataset

from deltaprune.benchmarks.scenes import SKILLS, Scene, scene_seed
from deltaprune.models._mllm import MLLMConfig
from deltaprune.models._prompts import TEMPLATES

PATCH_CLASSES = {"color": 8, "shape": 6, "glyph": 37}
WEIGHTS = {"existence": 1.5, "attribute": 2.5, "spatial": 0.5, "counting": 1.5, "reading": 0.8, "unanswerable": 1.0}


@dataclass
class Lesson:
    """One batch of G pictures and their questions; S = G + questions segments, T packed rows."""

    pixels: Tensor  # (G, 3, H, W) float32 in [0, 1]
    ids: Tensor  # (rows of text,) token ids, question after question
    targets: Tensor  # (rows of text,) the next token where it belongs to an answer, else -100
    skill: Tensor  # (rows of text,) index of the skill, for the log
    order: Tensor  # (T,) row of [all image rows; all text rows] that stands at each packed place
    cu_seqlens: Tensor  # (S + 1,) int32
    parent: Tensor  # (S,) int32, -1 for an image
    patches: dict[str, Tensor]  # (G * P,) class of what lies under each patch


class Lessons(IterableDataset):
    """An endless stream of lessons from the training seeds; `start` counts pictures, so that a run can be taken up."""

    def __init__(self, config: MLLMConfig, tokenizer: Tokenizer, pictures: int, questions: int, start: int = 0):
        self.config, self.tokenizer = config, tokenizer
        self.pictures, self.questions, self.start = pictures, questions, start

    def __iter__(self) -> Iterator[Lesson]:
        torch.set_num_threads(1)
        worker = torch.utils.data.get_worker_info()
        lane, lanes = (0, 1) if worker is None else (worker.id, worker.num_workers)
        first = self.start + lane * self.pictures
        while True:
            yield self.lesson(range(first, first + self.pictures))
            first += lanes * self.pictures

    def lesson(self, indices: range) -> Lesson:
        """The lesson on these pictures of the training stream."""
        template = TEMPLATES[self.config.template]
        n_visual, grid = self.config.n_visual, round(self.config.n_visual**0.5)
        size = next(iter(self.config.towers.values())).image_size
        pixels, ids, targets, skill, lengths, parent = [], [], [], [], [], []
        patches: dict[str, list[np.ndarray]] = {name: [] for name in PATCH_CLASSES}
        order: list[np.ndarray] = []
        text_base = len(indices) * n_visual
        for n_images, index in enumerate(indices):
            seed = scene_seed("train", 0, index)
            scene, rng = Scene.from_seed(seed), np.random.default_rng([seed, 1])
            pixels.append(np.asarray(scene.image.resize((size, size), 3), dtype=np.float32) / 255)
            labels = scene.patch_labels(grid)
            for name in PATCH_CLASSES:
                patches[name].append(labels[name])
            root = len(parent)
            parent.append(-1)
            lengths.append(n_visual)
            order.append(np.arange(n_images * n_visual, (n_images + 1) * n_visual))
            for question in scene.questions(rng, self.questions, WEIGHTS):
                prompt = self.tokenizer.encode(template(question.text), add_special_tokens=False).ids
                answer = self.tokenizer.encode(question.answer, add_special_tokens=False).ids
                eos = self.tokenizer.token_to_id("<|endoftext|>")
                row = prompt + answer
                order.append(np.arange(text_base + len(ids), text_base + len(ids) + len(row)))
                ids += row
                targets += [-100] * (len(prompt) - 1) + [*answer, eos]
                skill += [SKILLS.index(question.skill)] * len(row)
                lengths.append(len(row))
                parent.append(root)
        return Lesson(
            pixels=torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(),
            ids=torch.tensor(ids),
            targets=torch.tensor(targets),
            skill=torch.tensor(skill),
            order=torch.from_numpy(np.concatenate(order)),
            cu_seqlens=torch.tensor(np.concatenate([[0], np.cumsum(lengths)]), dtype=torch.int32),
            parent=torch.tensor(parent, dtype=torch.int32),
            patches={name: torch.from_numpy(np.concatenate(rows)).long() for name, rows in patches.items()},
        )
