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
from PIL.Image import Image

from deltaprune.ask import check_questions
from deltaprune.errors import NotFinite, UserError
from deltaprune.hosted.model import Hosted
from deltaprune.hosted.processor import HostedProcessor
from deltaprune.mllm.processor import Processor
from deltaprune.studio.choices import BY_HAND, Setting
from deltaprune.studio.door import door_of
from deltaprune.studio.layers import KEPT, last_choice, patch_at
from deltaprune.studio.result import Asked, Result
from deltaprune.studio.share import spans
from deltaprune.studio.sight import EXAMPLES, read
from deltaprune.vlm import VLM

UNPRUNED, HAND = "Unpruned", "By hand"
COMPARED = ("A", "B")
FIRST = ("dtp", "freeze")  # what A and B begin with
SHOWN = (*COMPARED, HAND)
NO_GRID = (
    "The visual tokens of this picture are no grid over it, because the model's processor cuts it into tiles: they are "
    "counted, but cannot be drawn or chosen by hand."
)
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
        vlm, processor: what `load` gave, also of a transformers model.

    Attributes:
        door: what is asked of the model.
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

    def __init__(self, vlm: VLM | Hosted, processor: Processor | HostedProcessor):
        self.door = door_of(vlm, processor)
        self.notice = ""
        self.sight = self.door.look(EXAMPLES[0].name, EXAMPLES[0].image)
        settings = (self.door.setting(method, self.sight) for method in FIRST)
        self.settings: dict[str, Setting] = dict(zip(COMPARED, settings, strict=True))
        self.shown, self.score = "A", self.door.score
        self.layer = self._first_stage()
        self._warm: set[str] = set()
        self.open_example(0)

    @told
    def open(self, path: str | None) -> None:
        """Take a picture file; the question stays and is asked again. None, a file that was taken away, is ignored."""
        if path is not None:
            self._look_at(*read(path), self.question)

    @told
    def open_example(self, number: int) -> None:
        """Take one of the examples and ask its question."""
        if not 0 <= number < len(EXAMPLES):
            raise UserError(f"There is no example {number}: they are numbered 0 to {len(EXAMPLES) - 1}.")
        example = EXAMPLES[number]
        self._look_at(example.name, example.image, example.question)

    def _look_at(self, name: str, image: Image, question: str) -> None:
        self.sight = self.door.look(name, image)
        self.dropped: frozenset[int] = frozenset()
        self.asked: list[Asked] = []
        self._held: tuple[str, Any] | None = None
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
        held = self._held[1] if self._held is not None and self._held[0] == whole.method else None
        asked, held = self.door.asked(self.sight, question, whole, held)
        self._held = whole.method, held
        self.asked = [*self.asked, asked][-REMEMBERED:]

    @told
    def choose(self, which: str, method: str) -> None:
        """Another method for A or B, with its own defaults."""
        self.settings[which] = self.door.setting(method, self.sight)
        self.shown = which

    @told
    def change(self, which: str, **values: Any) -> None:
        """Other values for A's or B's controls, see `Setting`."""
        self.settings[which] = replace(self.settings[which], **values)
        self.shown = which

    @told
    def toggle(self, x: float, y: float) -> None:
        """Drop the patch at a point of the picture by hand, or bring it back; see `patch_at`."""
        self.dropped ^= {patch_at(x, y, self._grid())}
        self.shown = HAND

    @told
    def start_by_hand(self) -> None:
        """Drop by hand what the shown setting drops, to go on from there."""
        result = self.result
        if result is not None and result.grid != self._grid():
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
        self.layer = self.layer if layer is None else min(max(int(layer), 0), self.door.shape.n_layers)
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
    def states(self) -> tuple[np.ndarray, tuple[int, int] | None]:
        """The state of each patch `(P,)` at the layer shown, all kept where the setting has no result; and the grid,
        None where they are no grid over the picture.
        """
        result = self.result
        if result is not None:
            return result.states[self.layer], result.grid
        return np.full(self.door.tokens(self.sight), KEPT, dtype=np.uint8), self.grid

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of patches without a method."""
        return self.door.grid(self.sight)

    def _grid(self) -> tuple[int, int]:
        """The same where patches are chosen on it."""
        grid = self.grid
        if grid is None:
            raise UserError(NO_GRID)
        return grid

    @property
    def heat(self) -> Float32[np.ndarray, "L P"]:
        """The chosen score of each patch as each layer gives it, without pruning, for this question; NaN in a layer
        that does not give it.
        """
        return self._heat_of(self.score)

    def _heat_of(self, score: str) -> Float32[np.ndarray, "L P"]:
        if score not in self._heat:
            self._heat[score] = self.door.heat(self.sight, self.question, score)
        return self._heat[score]

    def _result(self, text: str) -> Result | str:
        """Measured once for a picture and a question."""
        if text not in self._results:
            kind = text.partition(":")[0] + text.partition("score=")[2]
            try:
                self._results[text] = self.door.measured(self.sight, self.question, text, kind in self._warm)
                self._warm.add(kind)
            except (UserError, NotFinite) as error:
                self._results[text] = " ".join(str(error).split())
        return self._results[text]

    def _first_stage(self) -> int:
        """Where the page opens: after the layers that see all tokens, where the model's plan says so."""
        plan = self.door.shape.plan
        return self.door.shape.n_layers // 2 if plan is None else plan.early
