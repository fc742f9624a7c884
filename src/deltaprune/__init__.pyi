"""The public names; `__init__.py` imports each when it is first asked for."""

from .calibrate.plans import load_plan as load_plan
from .errors import UserError as UserError
from .merge import Merge as Merge
from .methods.dart import DART as DART
from .methods.divprune import DivPrune as DivPrune
from .methods.dtp import DTP as DTP
from .methods.fastv import FastV as FastV
from .methods.mtr import MTR as MTR
from .methods.none import NoPruning as NoPruning
from .methods.pyramid import Pyramid as Pyramid
from .methods.random import RandomPruning as RandomPruning
from .methods.tome import ToMe as ToMe
from .methods.uniform import UniformPruning as UniformPruning
from .methods.utrc import UTRC as UTRC
from .methods.vtw import VTW as VTW
from .prefix import ImagePrefix as ImagePrefix
from .rows import Rows as Rows
from .scores.clipped_output import ClippedOutput as ClippedOutput
from .scores.delta import Delta as Delta
from .scores.delta_norm import DeltaNorm as DeltaNorm
from .scores.diversity import Diversity as Diversity
from .scores.duplication import Duplication as Duplication
from .scores.hidden_attention import HiddenAttention as HiddenAttention
from .scores.input import InputNorm as InputNorm
from .scores.last_attention import LastAttention as LastAttention
from .scores.output import OutputNorm as OutputNorm
from .scores.random import Random as Random
from .scores.readout import ReadoutNorm as ReadoutNorm
from .scores.redundancy import Redundancy as Redundancy
from .scores.stateful import Stateful as Stateful
from .scores.uniform import Uniform as Uniform
from .scores.uniqueness import Uniqueness as Uniqueness
from .steps import Drop as Drop
from .steps import Method as Method
from .steps import Pass as Pass
from .steps import Plan as Plan
from .steps import Reduce as Reduce
from .steps import Score as Score
from .steps import Shape as Shape
from .steps import Stage as Stage
from .trace import Trace as Trace
from .vlm import VLM as VLM
from .vlm import load as load

__version__: str
