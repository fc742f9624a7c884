"""Finding where to prune a model from a few samples, and how much for a budget, without training."""

from deltaprune.calibrate.budget import Budget as Budget
from deltaprune.calibrate.budget import budget as budget
from deltaprune.calibrate.contribution import contribution as contribution
from deltaprune.calibrate.disjoint import Found as Found
from deltaprune.calibrate.disjoint import disjoint as disjoint
from deltaprune.calibrate.divergence import Divergence as Divergence
from deltaprune.calibrate.divergence import divergence as divergence
from deltaprune.calibrate.fitting import fitting as fitting
from deltaprune.calibrate.measure import Curves as Curves
from deltaprune.calibrate.measure import measure as measure
from deltaprune.calibrate.plans import NAMES as NAMES
from deltaprune.calibrate.plans import load_plan as load_plan
from deltaprune.calibrate.plans import plan as plan
from deltaprune.calibrate.plans import plan_document as plan_document
from deltaprune.calibrate.plans import save_plan as save_plan
from deltaprune.calibrate.spread import RULES as RULES
from deltaprune.calibrate.spread import Choice as Choice
from deltaprune.calibrate.spread import Spread as Spread
from deltaprune.calibrate.spread import argmin_early as argmin_early
from deltaprune.calibrate.spread import first_peak as first_peak
from deltaprune.calibrate.spread import late as late
from deltaprune.calibrate.spread import spread as spread
from deltaprune.calibrate.withdrawal import ETA as ETA
from deltaprune.calibrate.withdrawal import Withdrawal as Withdrawal
from deltaprune.calibrate.withdrawal import earliest as earliest
from deltaprune.calibrate.withdrawal import withdrawal as withdrawal
