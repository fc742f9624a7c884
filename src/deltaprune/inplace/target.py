"""A model of transformers' own as pruning sees it: its decoder layers, their mixers and probes, its shape."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from deltaprune.active import activate, active
from deltaprune.errors import UserError, did_you_mean
from deltaprune.inplace.families import Family, registry
from deltaprune.inplace.probes import Probe, mixer_of
from deltaprune.inplace.probes import registry as probes
from deltaprune.inplace.sizes import RowMacs, row_macs, write_share
from deltaprune.plan import Plan, Shape
from deltaprune.pruner import Kept
from deltaprune.steps import Method

USUAL = 256  # visual tokens of one image
NORMS = ("input_layernorm", "operator_norm", "norm")  # in front of a layer's mixer
FINAL_NORMS = ("norm_f", "final_layernorm")  # other names than a family's own
EARLY, LATE = 15 / 64, 45 / 64  # the paper's layers as shares of Cobra's depth


class Target:
    """What `with method(model) as pruned` gives for a model of transformers' own.

    Attributes:
        model: the model.
        family: where it keeps its parts.
        text: the part of it that calls the decoder layers.
        layers: these.
        mixers: the mixer of each.
        blocks: the probe of each, which says what can be read there.
        kept: what each stage left of the last prompt with an image.
    """

    def __init__(self, model: Any):
        self.model = model
        self.family = family_of(model)
        self.family.check(model)
        self.text: Any = model.get_submodule(self.family.text)
        self.layers: list[nn.Module] = list(self.text.layers[: self.text.config.num_hidden_layers])
        found = [_mixer(l, layer) for l, layer in enumerate(self.layers)]
        self.mixers = [mixer for mixer, _ in found]
        self.blocks: Sequence[Probe] = [probe for _, probe in found]
        self.kept: list[Kept] = []

    @property
    def method(self) -> Method | None:
        """The method that is on for the model in this thread, or asyncio task."""
        return active(self.model)

    @method.setter
    def method(self, method: Method | None) -> None:
        activate(self.model, method)

    @property
    def shape(self) -> Shape:
        """What a method may know; `USUAL` stands for the number of visual tokens, which depends on the image's size.
        `write` is the mean over the layers, each as heavy as it is.
        """
        return Shape(len(self.layers), USUAL, plan_by_depth(len(self.layers)), write_share(self.rows))

    @cached_property
    def rows(self) -> list[tuple[RowMacs, RowMacs]]:
        """For each layer, what a row costs that it updates, and one that only writes."""
        active = getattr(self.text.config, "num_experts_per_tok", None) or 1
        return [row_macs(*parts, active) for parts in zip(self.layers, self.mixers, self.blocks, strict=True)]

    def norm_of(self, l: int) -> nn.Module:
        """The norm in front of layer l's mixer."""
        parts = dict(self.layers[l].named_children())
        found = next((parts[name] for name in NORMS if name in parts), None)
        if found is None:
            raise UserError(
                f"Layer {l} has no norm called {' or '.join(NORMS)}, which image rows that only write have to pass: "
                'take how="skip".'
            )
        return found

    def norm(self, x: Tensor) -> Tensor:
        """The final norm."""
        parts = dict(self.text.named_children())
        return next(parts[name] for name in (self.family.norm, *FINAL_NORMS) if name in parts)(x)


def plan_by_depth(n_layers: int) -> Plan:
    """The paper's layers, 15 and 45 of 64, at the same shares of another depth."""
    return Plan(
        early=max(1, round(EARLY * n_layers)),
        late=max(2, round(LATE * n_layers)),
        source={"rule": "15 and 45 of 64 layers, at the same shares of this depth; not calibrated"},
    )


def family_of(model: Any) -> Family:
    """The family of a model, else a `UserError`."""
    kind = model.config.model_type
    if kind not in registry.names():
        raise UserError(
            f"A {type(model).__name__} (model_type {kind!r}) cannot be pruned in place: "
            f"{did_you_mean(kind, registry.names())}."
        )
    family = registry[kind]()
    try:
        model.get_submodule(family.text)
    except AttributeError as error:
        raise UserError(
            f"A {type(model).__name__} has no {family.text}: give the whole model, as AutoModelForImageTextToText "
            "loads it."
        ) from error
    return family


def _mixer(l: int, layer: nn.Module) -> tuple[nn.Module, Probe]:
    found = mixer_of(layer)
    if found is None:
        parts = ", ".join(sorted({type(part).__name__ for part in layer.children()}))
        raise UserError(f"Layer {l} of the model has no mixer that can be pruned around, among its parts {parts}.")
    return found[1], probes[type(found[1]).__name__]()
