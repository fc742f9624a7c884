"""Measurements of a model under pruning (implicit attention, scores, drift, stability) and figures of them.

Measurements take a model and inputs and return arrays; the functions in `figures` take arrays and return a figure, and
need matplotlib (`pip install deltaprune[plot]`), which nothing here imports.
"""

from deltaprune.analysis.attention import Attention as Attention
from deltaprune.analysis.attention import attention as attention
from deltaprune.analysis.attention import implicit_attention as implicit_attention
from deltaprune.analysis.correlation import Correlation as Correlation
from deltaprune.analysis.correlation import correlation as correlation
from deltaprune.analysis.depth import recipes as recipes
from deltaprune.analysis.drift import Drift as Drift
from deltaprune.analysis.drift import drift as drift
from deltaprune.analysis.keep_curve import KeepCurve as KeepCurve
from deltaprune.analysis.keep_curve import keep_curve as keep_curve
from deltaprune.analysis.movement import Movement as Movement
from deltaprune.analysis.movement import movement as movement
from deltaprune.analysis.scores import LayerScores as LayerScores
from deltaprune.analysis.scores import ScoreStatistics as ScoreStatistics
from deltaprune.analysis.scores import layer_scores as layer_scores
from deltaprune.analysis.sensitivity import Sensitivity as Sensitivity
from deltaprune.analysis.sensitivity import sensitivity as sensitivity
from deltaprune.analysis.stability import Stability as Stability
from deltaprune.analysis.stability import stability as stability
from deltaprune.overlay import overlay as overlay
from deltaprune.overlay import side_by_side as side_by_side
