"""ImagePrefix: the state after an image, from which many questions can start, also in another process.

In Cobra and RoboMamba the image comes before all text, and a recurrence never looks ahead, so the states after the
image do not depend on the question. A prefix file is one safetensors file; its metadata name the model and the method.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from deltaprune.blocks import registry as states
from deltaprune.disk import save_tensors
from deltaprune.errors import UserError, in_words
from deltaprune.fingerprint import sha256
from deltaprune.prefill import Kept, Prefilled
from deltaprune.rows import Rows, cumulate
from deltaprune.trace import Trace

FORMAT, VERSION = "deltaprune image prefix", "2"
TOKENS = ("x", "visual", "origin", "size", "key")
COUNTS = ("lengths", "n_visual", "n_image")


@dataclass(frozen=True)
class ImagePrefix:
    """A `Prefilled` of images alone, bound to the model that made it and to the method that pruned it.

    If a stage's choice depends on the question, the prefix ends at that stage: it holds the states of the layers below,
    the rows that enter the layer above and what the stage's score will read; each question runs the remaining layers.

    Attributes:
        prefilled: one sample per image.
        model: `fingerprint` of the model.
        method: the method's `repr`.
    """

    prefilled: Prefilled
    model: str
    method: str

    @property
    def n_images(self) -> int:
        """How many images it holds; `image_index` counts them from 0."""
        return len(self.prefilled.seen)

    @classmethod
    def cat(cls, prefixes: Sequence["ImagePrefix"]) -> "ImagePrefix":
        """The images of several prefixes, one prefix after the other.

        Raises:
            UserError: they were not made by one model under one method.
        """
        first = prefixes[0]
        for each in prefixes:
            each.check(first.model, first.method)
        return cls(Prefilled.cat([each.prefilled for each in prefixes]), first.model, first.method)

    @property
    def nbytes(self) -> int:
        """The memory of its tensors, bytes."""
        return sum(tensor.nbytes for tensor in _take_apart(self.prefilled)[0].values())

    def check(self, model: str, method: str) -> None:
        """Raise a `UserError` unless it was made by this very model under this very method."""
        if self.model != model:
            raise UserError(
                f"This image prefix was made by another model (fingerprint {self.model[:12]}, here {model[:12]}): "
                "encode the image again with this model."
            )
        if self.method != method:
            raise UserError(
                f"This image prefix was pruned by {self.method}, but {method} is active: switch {self.method} on, or "
                "encode the image again."
            )

    def to(self, device: torch.device | str) -> "ImagePrefix":
        """The same prefix on another device."""
        if self.prefilled.hidden.device == torch.device(device):
            return self
        tensors, layout = _take_apart(self.prefilled)
        moved = {name: tensor.to(device) for name, tensor in tensors.items()}
        prefilled = replace(_put_together(moved, layout), checks=self.prefilled.checks)
        return ImagePrefix(prefilled, self.model, self.method)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one file, whole or not at all.

        Raises:
            UserError: the folder does not exist or cannot be written to.
        """
        tensors, layout = _take_apart(self.prefilled.checked())
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        about = {"format": FORMAT, "version": VERSION, "model": self.model, "method": self.method}
        about["layout"] = json.dumps(layout)
        about["sha256"] = sha256(tensors, about)
        save_tensors(path, tensors, about)

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: torch.device | str = "cpu") -> "ImagePrefix":
        """Read what `save` wrote.

        Raises:
            UserError: no such file, not a prefix, written by another version, damaged or cut short.
        """
        file = Path(path)
        tensors, about = _read(file)
        if about.get("format") != FORMAT:
            raise UserError(f"{str(file)!r} is not an image prefix: give a file that ImagePrefix.save wrote.")
        if about.get("version") != VERSION:
            raise UserError(
                f"{str(file)!r} has version {about.get('version')} of the prefix format and this library reads version "
                f"{VERSION}: encode the image again."
            )
        if about.pop("sha256", None) != sha256(tensors, about):
            raise UserError(f"{str(file)!r} is damaged, its checksum is wrong: encode the image again.")
        prefilled = _put_together(tensors, json.loads(about["layout"]))
        return cls(prefilled, about["model"], about["method"]).to(device)


def _take_apart(prefilled: Prefilled) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A `Prefilled` -> named tensors and plain JSON numbers."""
    tokens, trace = prefilled.tokens, prefilled.trace
    tensors = {"hidden": prefilled.hidden}
    for l, state in enumerate(prefilled.states):
        tensors |= {f"states.{l}.{name}": tensor for name, tensor in state.tensors().items()}
    tensors |= {f"tokens.{name}": getattr(tokens, name) for name in TOKENS}
    tensors |= {f"kept.{i}": torch.cat(kept.origin) for i, kept in enumerate(prefilled.kept)}
    tensors |= {f"trace.rows.{role}": value for role, value in trace.rows.items()}
    tensors |= {f"trace.layer.{role}": value for role, value in trace.layer.items()}
    tensors |= {f"beside.{name}": value for name, value in tokens.beside.items()}
    layout: dict[str, Any] = {name: getattr(tokens, name) for name in COUNTS}
    layout |= {"depth": prefilled.depth, "seen": prefilled.seen, "images_first": tokens.images_first}
    layout["states"] = [state.kind for state in prefilled.states]
    layout["kept"] = [(kept.after, kept.counts, kept.read) for kept in prefilled.kept]
    return tensors, layout


def _put_together(tensors: Mapping[str, Tensor], layout: Mapping[str, Any]) -> Prefilled:
    """The inverse of `_take_apart`, also after a round trip through JSON."""
    rows: dict[str, Any] = {name: tensors[f"tokens.{name}"] for name in TOKENS}
    rows |= {name: tuple(layout[name]) for name in COUNTS} | {"images_first": layout["images_first"]}
    rows["beside"] = _named(tensors, "beside.")
    return Prefilled(
        hidden=tensors["hidden"],
        states=tuple(states[kind](**_named(tensors, f"states.{l}.")) for l, kind in enumerate(layout["states"])),
        tokens=Rows(**rows, cu_seqlens=cumulate(rows["lengths"], tensors["hidden"].device)),
        kept=tuple(
            Kept(after, tensors[f"kept.{i}"].split(tuple(left)), read)
            for i, (after, left, read) in enumerate(layout["kept"])
        ),
        depth=layout["depth"],
        trace=Trace(_named(tensors, "trace.rows."), _named(tensors, "trace.layer.")),
        seen=tuple(layout["seen"]),
    )


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    try:
        with safe_open(file, "pt") as opened:
            names = list(opened.keys())
            return {name: opened.get_tensor(name) for name in names}, dict(opened.metadata() or {})
    except OSError as error:
        raise UserError(f"{str(file)!r} cannot be read ({in_words(error)}): give a prefix's path.") from error
    except SafetensorError as error:
        raise UserError(
            f"{str(file)!r} is damaged, cut short or no prefix ({in_words(error)}): encode the image again."
        ) from error
