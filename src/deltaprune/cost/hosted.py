"""The closed form for a model of transformers' own: layers of different kinds, some of which cost more than their rows.

Counted are the matrix products and convolutions of the text model: what torch's `FlopCounterMode` counts of
transformers' own code, and the triangular systems of the delta rule, which it does not know. An attention is counted as
a whole square, a recurrence in whole chunks, of the experts those that a row is sent to. Rows
that only write a state are counted as a CPU computes them, by a rule for the state alone; on a GPU they run through the
whole recurrence. Vision towers, norms, activations and a method's scores are left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from deltaprune.counting import visual_tokens_per_layer
from deltaprune.errors import UserError
from deltaprune.hosted.config import HostedConfig
from deltaprune.hosted.sizes import LayerSizes
from deltaprune.methods.none import NoPruning
from deltaprune.steps import Method, passes_of

WEIGHTS = ("linear", "experts", "conv")  # the fields of `RowMacs`
PARTS = ("linear", "experts", "attention", "recurrence", "conv")


@dataclass(frozen=True)
class HostedCost:
    """MACs of one prefill, or of one decoded token.

    Attributes:
        parts: by component: `linear` (matrix products with weights), `experts`, `attention` (its quadratic part),
            `recurrence`, `conv`; `head` (logits of the one position that answers).
        share: all but the head over the same without pruning, a fraction.
    """

    parts: Mapping[str, float]
    share: float

    @property
    def total(self) -> float:
        """All components together."""
        return sum(self.parts.values())

    @property
    def components(self) -> dict[str, float]:
        """The components and their total under the names of `deltaprune cost --json`."""
        return {**self.parts, "total": self.total}

    @property
    def flops(self) -> dict[str, float]:
        """The same in FLOPs, 2 for each MAC."""
        return {name: 2 * value for name, value in self.components.items()}


def hosted_macs(config: HostedConfig, method: Method, text_tokens: float) -> HostedCost:
    """What one prefill of an image and a question costs.

    Raises:
        UserError: no text, or a method that cannot run on the model in place.
    """
    parts = _prefill(config, method, text_tokens)
    return HostedCost({**parts, "head": config.head}, _share(parts, config, text_tokens))


def hosted_decode_macs(config: HostedConfig, method: Method, text_tokens: float) -> HostedCost:
    """The cost of the first token decoded after the prefill: attention reads the rows that its layer has kept.

    `share` is that of this token, over the same without pruning.
    """
    parts, whole = (_step(config, each, text_tokens) for each in (method, NoPruning()))
    return HostedCost({**parts, "head": config.head}, sum(parts.values()) / sum(whole.values()))


def hosted_share(config: HostedConfig, method: Method, text_tokens: float) -> float:
    """LM-prefill MACs under `method` over those without pruning, a fraction."""
    return _share(_prefill(config, method, text_tokens), config, text_tokens)


def _share(parts: Mapping[str, float], config: HostedConfig, text_tokens: float) -> float:
    return sum(parts.values()) / sum(_prefill(config, NoPruning(), text_tokens).values())


def _prefill(config: HostedConfig, method: Method, text_tokens: float) -> dict[str, float]:
    """The layers' components, one image and its text."""
    total: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    for layer, updated, written in _rows(config, method, text_tokens):
        for part in WEIGHTS:
            total[part] += updated * getattr(layer.updated, part) + written * getattr(layer.written, part)
        total[layer.mixing.part] += layer.mixing(updated, updated + written)
    return total


def _step(config: HostedConfig, method: Method, text_tokens: float) -> dict[str, float]:
    """The layers' components, one decoded row."""
    total: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    for layer, updated, written in _rows(config, method, text_tokens):
        for part in WEIGHTS:
            total[part] += getattr(layer.updated, part)
        total[layer.mixing.part] += layer.mixing.step(updated + written)
    return total


def _rows(config: HostedConfig, method: Method, text_tokens: float) -> list[tuple[LayerSizes, float, float]]:
    """For each layer, how many rows it updates, and how many only write its state."""
    if not text_tokens >= 1:
        raise UserError(f"text_tokens={text_tokens} is no prompt: give at least 1 (a short question has about 22).")
    steps = config.steps_of(method)
    passes, found = passes_of(steps), []
    for l, visual in enumerate(visual_tokens_per_layer(steps, config.shape)):
        how = passes.get(l)
        updated = text_tokens + (visual if how is None else 0)
        found.append((config.layers[l], updated, visual if how == "write" else 0))
    return found
