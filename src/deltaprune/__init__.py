"""deltaprune: visual-token pruning for Mamba-based multimodal LLMs."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what a type checker sees; at run time `__getattr__` imports the same names when first used
    from deltaprune._registry import UserError as UserError
    from deltaprune.methods.dtp import DTP as DTP
    from deltaprune.methods.fastv import FastV as FastV
    from deltaprune.methods.none import NoPruning as NoPruning
    from deltaprune.methods.random import RandomPruning as RandomPruning
    from deltaprune.methods.uniform import UniformPruning as UniformPruning
    from deltaprune.methods.vtw import VTW as VTW
    from deltaprune.scores.delta import Delta as Delta
    from deltaprune.scores.delta_norm import DeltaNorm as DeltaNorm
    from deltaprune.scores.hidden_attention import HiddenAttention as HiddenAttention
    from deltaprune.scores.input import InputNorm as InputNorm
    from deltaprune.scores.output import OutputNorm as OutputNorm
    from deltaprune.scores.random import Random as Random
    from deltaprune.scores.readout import ReadoutNorm as ReadoutNorm
    from deltaprune.scores.stateful import Stateful as Stateful
    from deltaprune.scores.uniform import Uniform as Uniform
    from deltaprune.stages import Drop as Drop
    from deltaprune.stages import Method as Method
    from deltaprune.stages import Plan as Plan
    from deltaprune.stages import Reduce as Reduce
    from deltaprune.stages import Score as Score
    from deltaprune.stages import Shape as Shape
    from deltaprune.stages import Stage as Stage
    from deltaprune.tokens import Tokens as Tokens
    from deltaprune.tokens import Trace as Trace
    from deltaprune.vlm import VLM as VLM
    from deltaprune.vlm import load as load

__version__ = "0.1.0"

_HOMES = {
    "_registry": ("UserError",),
    "methods.dtp": ("DTP",),
    "methods.fastv": ("FastV",),
    "methods.none": ("NoPruning",),
    "methods.random": ("RandomPruning",),
    "methods.uniform": ("UniformPruning",),
    "methods.vtw": ("VTW",),
    "scores.delta": ("Delta",),
    "scores.delta_norm": ("DeltaNorm",),
    "scores.hidden_attention": ("HiddenAttention",),
    "scores.input": ("InputNorm",),
    "scores.output": ("OutputNorm",),
    "scores.random": ("Random",),
    "scores.readout": ("ReadoutNorm",),
    "scores.stateful": ("Stateful",),
    "scores.uniform": ("Uniform",),
    "stages": ("Drop", "Method", "Plan", "Reduce", "Score", "Shape", "Stage"),
    "tokens": ("Tokens", "Trace"),
    "vlm": ("VLM", "load"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
__all__ = ["__version__", *_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


if not TYPE_CHECKING:  # a checker that saw it would take any name for a public one

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first asked for, so that `import deltaprune` itself costs nothing."""
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
