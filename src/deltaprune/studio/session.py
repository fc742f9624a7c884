"""One visitor's work: a picture, a question, two settings and a choice by hand; everything that the page shows.

No web framework here. Every step that a visitor can take is a method; a mistake leaves the work as it was and puts one
sentence into `notice`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import numpy as np
from jaxtyping import Float32

from deltaprune.analysis import layer_scores
from deltaprune.ask import check_questions
from deltaprune.errors import NotFinite, UserError
from deltaprune.methods import parse
from deltaprune.mllm.processor import Inputs, Processor
from deltaprune.prefix import ImagePrefix
from deltaprune.scores import as_score
from deltaprune.studio.choices import BY_HAND, fitting
from deltaprune.studio.layers import KEPT, last_choice, patch_at
from deltaprune.studio.result import Asked, Result, asked_from, grid_of, measured
from deltaprune.studio.share import spans
from deltaprune.studio.sight import EXAMPLES, Sight
from deltaprune.vlm import VLM

UNPRUNED, HAND = "Unpruned", "By hand"
COMPARED = ("A", "B")
FIRST = ("dtp", "freeze")  # what A and B begin with
SHOWN = (*COMPARED, HAND)
REMEMBERED = 50  # questions in the list on the page
P = ParamSpec("P")


def told(step: "Callable[Concatenate[Session, P], None]") -> "Callable[Concatenate[Session, P], None]":
    """Decorator of a visitor's step: its mistake becomes the notice, and a step without one takes the notice away."""

    @wraps(step)
    def run(session: "Session", *args: P.args, **kwargs: P.kwargs) -> None:
        session.notice = ""
        try:
            step(session, *args, **kwargs)
        except (UserError, NotFinite) as error:
            session.notice = " ".join(str(error).split())

    return run


class Session:
    """What one visitor looks at. It opens with the first example and its question.

    Args:
        vlm, processor: what `load` gave.

    Attributes:
        notice: the last step's mistake in one sentence, else "".
        sight: the picture.
        question: about it.
        settings: A's and B's.
        dropped: the patches that are dropped by hand.
        shown: whose patches are drawn: "A", "B" or "By hand".
        layer: after how many layers they are drawn.
        score: the name of the score whose heat map and spread are drawn.
        asked: the questions asked about this picture, the first one first.
    """

    def __init__(self, vlm: VLM, processor: Processor):
        self.vlm, self.processor = vlm, processor
        self.notice = ""
        self.settings = {name: fitting(method, vlm.shape) for name, method in zip(COMPARED, FIRST, strict=True)}
        self.shown, self.score = "A", "delta"
        self.layer = self._first_stage()
        self._warm: set[str] = set()
        self.open_example(0)

    @told
    def open(self, path: str | None) -> None:
        """Take a picture file; the question stays and is asked again. None, a file that was taken away, is ignored."""
        if path is not None:
            self._look_at(Sight.read(path, self.vlm, self.processor), self.question)

    @told
    def open_example(self, number: int) -> None:
        """Take one of the examples and ask its question."""
        if not 0 <= number < len(EXAMPLES):
            raise UserError(f"There is no example {number}: they are numbered 0 to {len(EXAMPLES) - 1}.")
        example = EXAMPLES[number]
        self._look_at(Sight.of(example.name, example.image, self.vlm, self.processor), example.question)

    def _look_at(self, sight: Sight, question: str) -> None:
        self.sight = sight
        self.dropped: frozenset[int] = frozenset()
        self.asked: list[Asked] = []
        self._prefix: tuple[str, ImagePrefix] | None = None
        self._ask(question)

    @told
    def ask(self, question: str) -> None:
        """Ask about the picture."""
        if not question.strip():
            raise UserError("The question is empty: type one, such as 'How many red circles are there?'.")
        check_questions([question])
        self._ask(question.strip())

    def _ask(self, question: str) -> None:
        self.question = question
        self._results: dict[str, Result | str] = {}
        self._heat: dict[str, Float32[np.ndarray, "L P"]] = {}
        rows = self.rows()
        whole = rows["A"] if isinstance(rows["A"], Result) else rows[UNPRUNED]
        if isinstance(whole, str):
            raise UserError(whole)
        held = self._prefix[1] if self._prefix is not None and self._prefix[0] == whole.method else None
        asked, prefix = asked_from(self.vlm, self.processor, self.sight, question, whole.method, held)
        self._prefix = whole.method, prefix
        self.asked = [*self.asked, asked][-REMEMBERED:]

    @told
    def choose(self, which: str, method: str) -> None:
        """Another method for A or B, with its own defaults."""
        self.settings[which] = fitting(method, self.vlm.shape)
        self.shown = which

    @told
    def change(self, which: str, **values: Any) -> None:
        """Other values for A's or B's controls, see `Setting`."""
        self.settings[which] = replace(self.settings[which], **values)
        self.shown = which

    @told
    def toggle(self, x: float, y: float) -> None:
        """Drop the patch at a point of the picture by hand, or bring it back; see `patch_at`."""
        self.dropped ^= {patch_at(x, y, grid_of(self.vlm, parse("none")))}
        self.shown = HAND

    @told
    def start_by_hand(self) -> None:
        """Drop by hand what the shown setting drops, to go on from there."""
        result = self.result
        if result is not None and result.grid != grid_of(self.vlm, parse("none")):
            raise UserError(f"{result.method} makes the picture smaller and has other patches: show another setting.")
        self.dropped = frozenset() if result is None else last_choice(result.states)
        self.shown = HAND

    @told
    def bring_back(self) -> None:
        """Drop nothing by hand."""
        self.dropped = frozenset()
        self.shown = HAND

    @told
    def look(self, shown: str | None = None, layer: int | None = None, score: str | None = None) -> None:
        """What is drawn; None leaves it as it is."""
        self.shown = self.shown if shown is None else shown
        self.layer = self.layer if layer is None else min(max(int(layer), 0), self.vlm.shape.n_layers)
        if score is not None:
            self._heat_of(score)
            self.score = score

    def text_of(self, name: str) -> str:
        """The setting of a row, as `--method` takes it."""
        if name in COMPARED:
            return self.settings[name].text
        return f"{BY_HAND}:drop={spans(self.dropped)}" if name == HAND and self.dropped else "none"

    def rows(self) -> dict[str, Result | str]:
        """Unpruned, A, B and, where patches were chosen, by hand: a result, or the sentence why there is none."""
        names = [UNPRUNED, *COMPARED, *([HAND] if self.dropped else [])]
        return {name: self._result(self.text_of(name)) for name in names}

    @property
    def result(self) -> Result | None:
        """Of the setting that is shown; None where it has none."""
        found = self._result(self.text_of(self.shown))
        return found if isinstance(found, Result) else None

    @property
    def states(self) -> tuple[np.ndarray, tuple[int, int]]:
        """The state of each patch `(P,)` at the layer shown, and the grid; all kept where the setting has no result."""
        result = self.result
        if result is not None:
            return result.states[self.layer], result.grid
        grid = grid_of(self.vlm, parse("none"))
        return np.full(grid[0] * grid[1], KEPT, dtype=np.uint8), grid

    @property
    def heat(self) -> Float32[np.ndarray, "L P"]:
        """The chosen score of each patch as each layer gives it, without pruning, for this question."""
        return self._heat_of(self.score)

    def _heat_of(self, score: str) -> Float32[np.ndarray, "L P"]:
        if score not in self._heat:
            inputs = Inputs({**self.sight.pixels, **self.sight.ask(self.processor, self.question)})
            self._heat[score] = layer_scores(self.vlm, inputs, as_score(score)).scores[:, 0]
        return self._heat[score]

    def _result(self, text: str) -> Result | str:
        """Measured once for a picture and a question."""
        if text not in self._results:
            kind = text.partition(":")[0] + text.partition("score=")[2]
            given = (self.vlm, self.processor, self.sight, self.question, text)
            try:
                self._results[text] = measured(*given, warm=kind in self._warm)
                self._warm.add(kind)
            except (UserError, NotFinite) as error:
                self._results[text] = " ".join(str(error).split())
        return self._results[text]

    def _first_stage(self) -> int:
        """Where the page opens: after the layers that see all tokens, where the model's plan says so."""
        plan = self.vlm.shape.plan
        return self.vlm.shape.n_layers // 2 if plan is None else plan.early
