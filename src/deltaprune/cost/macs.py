"""Multiply-accumulates of one prefill, image and question, and of each token decoded after it; any model, any method.

Two conventions:

    full    everything that runs: towers, projector, LM, the head at one position. The scan counts the
            multiplications of the recurrence, each with its addition where it has one.
    paper   what reproduces the FLOPs of the paper's Tables 1, 2 and 5 ("FLOPs" there are MACs): the LM's layers only,
            the scan at the customary 9 D N + 2 D per token (state-spaces/mamba issues 110, 303).

FLOPs here are 2 for each MAC.

Left out of both: norms, activations, exponentials, biases, residual adds, and a method's own scores. The score Delta is
read from what a layer computes anyway: one reduction over D channels per token, 1e-4 of that layer. Scores that compare
tokens cost more; their files say how much.

A model of transformers' own is counted in `hosted`, under the convention "full" alone.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import overload

from deltaprune.blocks.mamba1 import MambaBlock
from deltaprune.blocks.sizes import MambaConfig
from deltaprune.cost.hosted import HostedCost, hosted_decode_macs, hosted_macs, hosted_share
from deltaprune.counting import TEXT_TOKENS, updated_and_written
from deltaprune.counting import tokens_kept as tokens_kept
from deltaprune.counting import visual_tokens_per_layer as visual_tokens_per_layer
from deltaprune.errors import UserError, did_you_mean
from deltaprune.hosted.config import HostedConfig
from deltaprune.methods.none import NoPruning
from deltaprune.mllm.network import MLLMConfig
from deltaprune.readers import readers
from deltaprune.steps import Method, side_of
from deltaprune.vision.towers import TowerConfig

CONVENTIONS = ("full", "paper")
COMPONENTS = ("vision", "projector", "linear", "conv", "scan", "head")


@dataclass(frozen=True)
class Cost:
    """MACs of one prefill, or of one decoded token, by component (operations).

    Attributes:
        vision: patch embedding and blocks of all towers.
        projector: from features to visual tokens.
        linear: the LM's matrix products.
        conv, scan: the rest of the LM's layers.
        head: logits of the one position that answers.
        share: LM prefill (linear + conv + scan) over the same without pruning, a fraction. Where every row that passes
            through a layer is updated, each of the three is proportional to the rows, so the share is the same under
            both conventions; of a row that only writes the state, all that runs is counted.
    """

    vision: float
    projector: float
    linear: float
    conv: float
    scan: float
    head: float
    share: float

    @property
    def total(self) -> float:
        """All components together."""
        return sum(getattr(self, name) for name in COMPONENTS)

    @property
    def components(self) -> dict[str, float]:
        """The components and their total under the names of `deltaprune cost --json`."""
        return {name: getattr(self, name) for name in (*COMPONENTS, "total")}

    @property
    def flops(self) -> dict[str, float]:
        """The same in FLOPs."""
        return {name: 2 * value for name, value in self.components.items()}


@overload
def macs(config: MLLMConfig, method: Method, text_tokens: float, convention: str = "full") -> Cost: ...
@overload
def macs(
    config: MLLMConfig | HostedConfig, method: Method, text_tokens: float, convention: str = "full"
) -> Cost | HostedCost: ...
def macs(
    config: MLLMConfig | HostedConfig, method: Method, text_tokens: float, convention: str = "full"
) -> Cost | HostedCost:
    """What one prefill of an image and a question costs.

    Args:
        config: the model's sizes.
        method: the pruning method.
        text_tokens: the prompt's text, template included; a mean over questions need not be whole.
        convention: "full" or "paper", see the module's docstring.

    Raises:
        UserError: no text, an unknown convention, or a method that cannot run on the model.
    """
    full = _is_full(convention)
    if isinstance(config, HostedConfig):
        _check_counted(config, full)
        return hosted_macs(config, method, text_tokens)
    updated, written = _rows(config, method, text_tokens)
    seen = config.shrunk(side_of(method.checked_steps(config.shape)))
    return Cost(
        vision=sum(tower_macs(tower) for tower in seen.towers.values()) if full else 0,
        projector=seen.n_visual * projector_macs(config) if full else 0,
        **_lm_macs(config.lm, updated, written, full),
        share=share_of(config, method, text_tokens),
    )


@overload
def decode_macs(config: MLLMConfig, convention: str = "full") -> Cost: ...
@overload
def decode_macs(
    config: MLLMConfig | HostedConfig,
    convention: str = "full",
    method: Method | None = None,
    text_tokens: float = TEXT_TOKENS,
) -> Cost | HostedCost: ...
def decode_macs(
    config: MLLMConfig | HostedConfig,
    convention: str = "full",
    method: Method | None = None,
    text_tokens: float = TEXT_TOKENS,
) -> Cost | HostedCost:
    """What each token of the answer after the first costs; the first comes with the prefill.

    One row goes through every layer, whatever came before it: a recurrence's state never grows, so a pruned model
    decodes exactly as fast, and `share` is 1. Attention, in a model of transformers' own, reads fewer rows.

    Args:
        config: the model's sizes.
        convention: "full" or "paper", see the module's docstring.
        method, text_tokens: what came before; for a model of transformers' own.

    Raises:
        UserError: an unknown convention.
    """
    full = _is_full(convention)
    if isinstance(config, HostedConfig):
        _check_counted(config, full)
        return hosted_decode_macs(config, method or NoPruning(), text_tokens)
    return Cost(vision=0, projector=0, **_lm_macs(config.lm, config.lm.n_layers, 0, full), share=1.0)


def share_of(config: MLLMConfig | HostedConfig, method: Method, text_tokens: float) -> float:
    """LM-prefill MACs under `method` over those without pruning, a fraction.

    Raises:
        UserError: no text, or a method that cannot run on the model.
    """
    if isinstance(config, HostedConfig):
        return hosted_share(config, method, text_tokens)
    updated, written = _rows(config, method, text_tokens)
    return (updated + config.lm.write_share * written) / _rows(config, NoPruning(), text_tokens)[0]


def tower_macs(tower: TowerConfig) -> int:
    """MACs of one image in one tower: patch embedding and every block but the last, which is never run."""
    length, width = tower.n_patches + tower.n_prefix, tower.width
    embedding = tower.n_patches * 3 * tower.patch_size**2 * width
    attention = 4 * length * width**2 + 2 * length**2 * width  # q, k, v, output; scores and their sum over values
    mlp = 2 * length * width * tower.mlp_width
    return embedding + (tower.n_blocks - 1) * (attention + mlp)


def projector_macs(config: MLLMConfig) -> int:
    """MACs of the projector on one visual token."""
    return sum(a * b for a, b in pairwise((config.vision_width, *config.projector)))


def _is_full(convention: str) -> bool:
    """Whether everything is counted; an unknown convention is a `UserError`."""
    if convention not in CONVENTIONS:
        raise UserError(f"There is no convention {convention!r}: {did_you_mean(convention, CONVENTIONS)}.")
    return convention == "full"


def _check_counted(config: HostedConfig, full: bool) -> None:
    """Only everything can be counted: what the paper leaves out is its own model's."""
    if not full:
        raise UserError(f"convention 'paper' is about Mamba models; {config.name} is counted with convention 'full'.")


def _lm_macs(lm: MambaConfig, updated: float, written: float, full: bool) -> dict[str, float]:
    """The LM's components for so many passages of a row through a layer, and the head at one position.

    Args:
        updated: passages in which the row is updated.
        written: passages in which it only writes the state.
    """
    update, write = lm.macs(paper=not full), lm.macs("write", paper=not full)
    parts = {name: updated * update[name] + written * write[name] for name in update}
    return {**parts, "head": lm.d_model * lm.padded_vocab if full else 0}


def _rows(config: MLLMConfig, method: Method, text_tokens: float) -> tuple[float, float]:
    """Rows that a layer updates, and rows that only write its state, each summed over layers; else a `UserError`."""
    if not text_tokens >= 1:
        raise UserError(f"text_tokens={text_tokens} is no prompt: give at least 1 (a short question has about 22).")
    steps = method.checked_steps(config.shape)
    readers((MambaBlock,) * config.lm.n_layers, steps)
    return updated_and_written(steps, config.shape, text_tokens)
