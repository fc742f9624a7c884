"""deltaprune: visual-token pruning for Mamba-based multimodal LLMs."""

from deltaprune._registry import UserError as UserError
from deltaprune.methods.dtp import DTP as DTP
from deltaprune.methods.none import NoPruning as NoPruning
from deltaprune.methods.random import RandomPruning as RandomPruning
from deltaprune.scores.delta import Delta as Delta
from deltaprune.scores.random import Random as Random
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
