"""Figures as the paper prints them: arrays in, a matplotlib `Figure` out; `save` writes PNG, SVG or PDF.

    save(spread_curve(curve.std, early=4, late=12), "spread.png")

They are drawn at their printed size, one column (3.4 inches) wide, in 7 to 8 point type: set them at 100 %. Nothing
goes through pyplot, so that nothing is left open and no display is needed. Importing this imports matplotlib.
"""

from deltaprune.analysis.figures._page import GREY as GREY
from deltaprune.analysis.figures._page import SUFFIXES as SUFFIXES
from deltaprune.analysis.figures._page import page as page
from deltaprune.analysis.figures._page import paths as paths
from deltaprune.analysis.figures._page import save as save
from deltaprune.analysis.figures._page import style as style
from deltaprune.analysis.figures.attention import attention_maps as attention_maps
from deltaprune.analysis.figures.correlation import correlation_curves as correlation_curves
from deltaprune.analysis.figures.growth import growth_curves as growth_curves
from deltaprune.analysis.figures.keep_curve import keep_curves as keep_curves
from deltaprune.analysis.figures.scores import score_maps as score_maps
from deltaprune.analysis.figures.sensitivity import sensitivity_map as sensitivity_map
from deltaprune.analysis.figures.spread import spread_curve as spread_curve
from deltaprune.analysis.figures.tokens import kept_tokens as kept_tokens
from deltaprune.analysis.figures.tradeoff import COLOURS as COLOURS
from deltaprune.analysis.figures.tradeoff import tradeoff_curves as tradeoff_curves
