"""Finding where to prune a model from a few samples, without training."""

from deltaprune.calibrate.spread import RULES as RULES
from deltaprune.calibrate.spread import Choice as Choice
from deltaprune.calibrate.spread import Spread as Spread
from deltaprune.calibrate.spread import argmin_early as argmin_early
from deltaprune.calibrate.spread import first_peak as first_peak
from deltaprune.calibrate.spread import late as late
from deltaprune.calibrate.spread import plan as plan
from deltaprune.calibrate.spread import spread as spread
