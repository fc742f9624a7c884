"""deltaprune: visual-token pruning for Mamba-based multimodal LLMs."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what a type checker sees; at run time `__getattr__` imports the same names when first used
    from deltaprune._registry import UserError as UserError
    from deltaprune.calibrate.plans import load_plan as load_plan
    from deltaprune.merge import Merge as Merge
    from deltaprune.methods.dart import DART as DART
    from deltaprune.methods.divprune import DivPrune as DivPrune
    from deltaprune.methods.dtp import DTP as DTP
    from deltaprune.methods.fastv import FastV as FastV
    from deltaprune.methods.mtr import MTR as MTR
    from deltaprune.methods.none import NoPruning as NoPruning
    from deltaprune.methods.pyramid import Pyramid as Pyramid
    from deltaprune.methods.random import RandomPruning as RandomPruning
    from deltaprune.methods.tome import ToMe as ToMe
    from deltaprune.methods.uniform import UniformPruning as UniformPruning
    from deltaprune.methods.utrc import UTRC as UTRC
    from deltaprune.methods.vtw import VTW as VTW
    from deltaprune.prefix import ImagePrefix as ImagePrefix
    from deltaprune.scores.clipped_output import ClippedOutput as ClippedOutput
    from deltaprune.scores.delta import Delta as Delta
    from deltaprune.scores.delta_norm import DeltaNorm as DeltaNorm
    from deltaprune.scores.diversity import Diversity as Diversity
    from deltaprune.scores.duplication import Duplication as Duplication
    from deltaprune.scores.hidden_attention import HiddenAttention as HiddenAttention
    from deltaprune.scores.input import InputNorm as InputNorm
    from deltaprune.scores.output import OutputNorm as OutputNorm
    from deltaprune.scores.random import Random as Random
    from deltaprune.scores.readout import ReadoutNorm as ReadoutNorm
    from deltaprune.scores.redundancy import Redundancy as Redundancy
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
    "calibrate.plans": ("load_plan",),
    "merge": ("Merge",),
    "methods.dart": ("DART",),
    "methods.divprune": ("DivPrune",),
    "methods.dtp": ("DTP",),
    "methods.fastv": ("FastV",),
    "methods.mtr": ("MTR",),
    "methods.none": ("NoPruning",),
    "methods.pyramid": ("Pyramid",),
    "methods.random": ("RandomPruning",),
    "methods.tome": ("ToMe",),
    "methods.uniform": ("UniformPruning",),
    "methods.utrc": ("UTRC",),
    "methods.vtw": ("VTW",),
    "prefix": ("ImagePrefix",),
    "scores.clipped_output": ("ClippedOutput",),
    "scores.delta": ("Delta",),
    "scores.delta_norm": ("DeltaNorm",),
    "scores.diversity": ("Diversity",),
    "scores.duplication": ("Duplication",),
    "scores.hidden_attention": ("HiddenAttention",),
    "scores.input": ("InputNorm",),
    "scores.output": ("OutputNorm",),
    "scores.random": ("Random",),
    "scores.readout": ("ReadoutNorm",),
    "scores.redundancy": ("Redundancy",),
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
