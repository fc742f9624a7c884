"""What can be chosen: the methods and scores that fit a model, and the text that names a setting."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from deltaprune.errors import UserError
from deltaprune.methods import fields_of, parse
from deltaprune.methods import registry as methods
from deltaprune.methods.freeze import BUDGET
from deltaprune.plan import Shape
from deltaprune.protocols import Layer
from deltaprune.readers import HIDDEN
from deltaprune.scores import registry as scores

BY_HAND = "chosen"  # its patches are chosen on the picture, not in a list
CONTROLS = ("budget", "keep", "score")  # in the order in which a setting's text names them


@dataclass(frozen=True)
class Setting:
    """A method and its controls; those that the method does not have play no part.

    Attributes:
        method: its name.
        budget: share of the LM prefill's MACs.
        keep: share of the visual tokens.
        score: the name of what ranks them.
        more: further fields as they are typed, such as "early=3,late=none".
    """

    method: str
    budget: float = BUDGET
    keep: float = 0.5
    score: str = "delta"
    more: str = ""

    @classmethod
    def of(cls, method: str) -> "Setting":
        """A method with its own defaults, budget 0.6 where it has none."""
        known = fields_of(methods[method])
        keep, budget = (known.get(name) or "none" for name in ("keep", "budget"))
        return cls(
            method,
            budget=cls.budget if _word(budget) else float(budget),
            keep=cls.keep if _word(keep) else float(keep),
            score=known.get("score") or cls.score,
        )

    @property
    def controls(self) -> frozenset[str]:
        """Which of `CONTROLS` the method has; a number whose default is a word ("plan") is typed among `more`."""
        known = fields_of(methods[self.method])
        return frozenset(name for name in CONTROLS if name in known and (name == "score" or _number(known[name])))

    @property
    def text(self) -> str:
        """As `--method` takes it; defaults are left out, the first of budget and keep is always named."""
        known, parts = fields_of(methods[self.method]), [part for part in (self.more.strip(),) if part]
        named = {part.partition("=")[0].strip() for part in self.more.replace(";", ",").split(",")}
        written: list[str] = []
        for name in CONTROLS:
            if name in self.controls and name not in named:
                value = self.score if name == "score" else f"{getattr(self, name):g}"
                default = known[name] if name == "score" else _plain(known[name])
                if value != default or (name != "score" and not written):
                    written.append(f"{name}={value}")
        fields = ",".join([*written, *parts])
        return f"{self.method}:{fields}" if fields else self.method


def fitting(method: str, shape: Shape) -> Setting:
    """A method with its own defaults; its budget is the next larger one that the model can meet, in steps of 0.05."""
    setting = Setting.of(method)
    while "budget" in setting.controls and setting.budget < 1 and not _fits(setting, shape):
        setting = replace(setting, budget=min(1.0, round(setting.budget + 0.05, 2)))
    return setting


def _fits(setting: Setting, shape: Shape) -> bool:
    try:
        parse(setting.text).checked_steps(shape)
    except UserError:
        return False
    return True


def _plain(number: str | None) -> str | None:
    """A default as it would be written from a slider."""
    return number if number is None or _word(number) else f"{float(number):g}"


def _word(default: str) -> bool:
    """A default that is no number."""
    return not default.replace(".", "", 1).isdigit()


def _number(default: str | None) -> bool:
    """A default that a slider can show, or none."""
    return default is not None and (default == "none" or not _word(default))


def method_names() -> list[str]:
    """Every method that is chosen from a list."""
    return [name for name in methods.names() if name != BY_HAND]


def score_names(blocks: Sequence[Layer]) -> list[str]:
    """Every score that some layer can serve and that needs no list of patches."""
    offers = HIDDEN.union(*(block.offers for block in blocks))
    return [name for name in scores.names() if name != BY_HAND and scores[name]().needs <= offers]
