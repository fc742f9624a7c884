"""Recipes that take DTP's two layers from a model's depth alone, for models without a calibration."""

from collections.abc import Mapping

from deltaprune.errors import UserError
from deltaprune.plan import Shape

PAPER = (15, 45, 64)  # early and late layer, and the depth, of Cobra and RoboMamba


def recipes(shape: Shape) -> Mapping[str, tuple[int, int]]:
    """(early, late) by name: the model's plan, if it has one; 25 % and 70 % of the depth; the paper's layers, scaled.

    Raises:
        UserError: a model of fewer than 4 layers, in which the recipes leave no layer between the two.
    """
    depth = shape.n_layers
    if depth < 4:
        raise UserError(f"A model of {depth} layers is too shallow for a recipe: it takes at least 4.")
    early, late, of = PAPER
    found = {} if shape.plan is None else {"plan": (shape.plan.early, shape.plan.late)}
    return {
        **found,
        "25 % and 70 %": (max(1, round(0.25 * depth)), round(0.7 * depth)),
        "15 and 45 of 64": (max(1, round(early * depth / of)), round(late * depth / of)),
    }
