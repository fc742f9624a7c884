"""What the commands know of a model of transformers' own: its name, its layers' sizes and its plan."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from deltaprune.errors import UserError
from deltaprune.hosted.sizes import LayerSizes, layer_sizes
from deltaprune.inplace.served import check_served
from deltaprune.inplace.sizes import write_share
from deltaprune.inplace.target import USUAL, Target, plan_by_depth
from deltaprune.plan import Plan, Shape
from deltaprune.protocols import Layer
from deltaprune.steps import Method, Step

HEAD = "lm_head"
SCORES = {"delta": "step", "last_attention": "attention"}  # a default score -> the role that it reads; the first wins
FASTV = 2  # layers before FastV's stage


@dataclass(frozen=True)
class HostedConfig:
    """Sizes and plan.

    Attributes:
        name: the folder's.
        layers: the decoder layers' sizes.
        head: MACs of one row's logits.
        plan: where it is best pruned; by depth alone until a calibrated one is given.
        blocks: the layers' probes, which say what a score can read there.
        score: by which DTP prunes it where nobody says: "delta", or "last_attention" where no layer has a step size.
        first: layers that have run when one has told this score.
        n_visual: visual tokens of one image. They depend on the image's size: `USUAL` unless one is at hand.
    """

    name: str
    layers: tuple[LayerSizes, ...] = field(repr=False)
    head: int
    plan: Plan
    blocks: tuple[Layer, ...] = field(repr=False, compare=False)
    score: str = "delta"
    first: int = 1
    n_visual: int = USUAL

    @classmethod
    def of(cls, model: Any, name: str) -> "HostedConfig":
        """Read off a model's modules; they need no weights.

        Raises:
            UserError: a model that cannot be pruned in place, or a kind of layer whose cost is not known.
        """
        target = Target(model)
        layers = layer_sizes(target)
        head = next((part for where, part in model.named_modules() if where.rpartition(".")[2] == HEAD), None)
        if head is None:
            raise UserError(f"A {type(model).__name__} has no {HEAD} that gives logits: load the whole model.")
        told = {score: [role in block.offers for block in target.blocks] for score, role in SCORES.items()}
        score = next((score for score, layers in told.items() if any(layers)), "last_attention")
        first = told[score].index(True) + 1 if any(told[score]) else len(layers)
        weights, blocks = head.in_features * head.out_features, tuple(target.blocks)
        return cls(name, layers, weights, plan_by_depth(len(layers)), blocks, score, first)

    @property
    def shape(self) -> Shape:
        """What a method may know."""
        return Shape(len(self.layers), self.n_visual, self.plan, self.write)

    @property
    def write(self) -> float:
        """MACs with weights of a row that only writes over those of one that is updated, all layers together."""
        return write_share([(layer.updated, layer.written) for layer in self.layers])

    def steps_of(self, method: Method) -> tuple[Step, ...]:
        """A method's steps on this model, else a `UserError` where they cannot run on it in place."""
        steps = method.checked_steps(self.shape)
        check_served(self.blocks, steps)
        return steps

    def with_visual(self, n: int) -> "HostedConfig":
        """The same for images of so many visual tokens."""
        return replace(self, n_visual=max(1, n))


def suited(methods: Sequence[str], config: object) -> list[str]:
    """Default methods as texts, DTP and FastV with a score that the model's layers tell, FastV behind one that does."""
    if not isinstance(config, HostedConfig):
        return list(methods)
    found = []
    for text in methods:
        name, colon, more = text.partition(":")
        fields = [more] if more else []
        if name in ("dtp", "fastv") and config.score != "delta":
            fields.append(f"score={config.score}")
        if name == "fastv" and config.first > FASTV:
            fields.append(f"after={config.first}")
        found.append(f"{name}:{','.join(fields)}" if fields else name + colon)
    return found


def about_images(config: object, methods: Sequence[Method]) -> dict[str, Any]:
    """What rows of JSON say besides for a model of transformers' own: its visual tokens, and a plan by depth alone."""
    if not isinstance(config, HostedConfig):
        return {}
    note = uncalibrated(config, methods)
    return {"visual_tokens": config.n_visual, **({"plan": note} if note else {})}


def uncalibrated(config: object, methods: Sequence[Method]) -> str:
    """The sentence that says so where a method prunes by the plan's layers and nobody calibrated the model; else "".

    A method goes by them if its steps are others under a plan whose layers are moved.
    """
    if not isinstance(config, HostedConfig) or config.plan != plan_by_depth(len(config.layers)):
        return ""
    moved = replace(config.plan, early=config.plan.early + 1, late=config.plan.late - 1)
    here, there = config.shape, replace(config.shape, plan=moved)
    if all(method.steps(here) == method.steps(there) for method in methods):
        return ""
    early, late, n = config.plan.early, config.plan.late, len(config.layers)
    return (
        f"after {early} and {late} of {n} layers, .234 and .703 of the depth as in the paper's model, not "
        "calibrated; `deltaprune calibrate` finds this model's own"
    )
