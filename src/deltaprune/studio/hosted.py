"""The door to a transformers model, which encodes the picture with every question."""

from dataclasses import replace
from statistics import median

import numpy as np
from jaxtyping import Float32
from PIL.Image import Image

from deltaprune.analysis.in_place import scores_in_place
from deltaprune.ask.hosted import places
from deltaprune.cost import share_of
from deltaprune.hosted.clock import PARTS
from deltaprune.hosted.config import suited, uncalibrated
from deltaprune.hosted.grid import token_grid
from deltaprune.hosted.model import Hosted, HostedAnswer
from deltaprune.hosted.processor import HostedProcessor
from deltaprune.inplace.attach import check_runnable
from deltaprune.inplace.target import Target
from deltaprune.methods import parse
from deltaprune.methods.dtp import DTP
from deltaprune.mllm.processor import Inputs
from deltaprune.scores import as_score
from deltaprune.steps import passes_of
from deltaprune.studio import result as measuring
from deltaprune.studio.choices import Setting, fitting, score_names
from deltaprune.studio.door import Door
from deltaprune.studio.layers import patch_states
from deltaprune.studio.result import Asked, Result
from deltaprune.studio.sight import Sight, a_few

ANY = "What is this?"  # a question, to count a picture's tokens


class PromptSight(Sight):
    """A picture; its size decides how many visual tokens it has.

    Args:
        name, image: of the picture.
        vlm, processor: of the door.

    Attributes:
        tokens: how many visual tokens.
        grid: their rows and columns; None where they are no grid over the picture.
    """

    def __init__(self, name: str, image: Image, vlm: Hosted, processor: HostedProcessor):
        super().__init__(name, image)
        self._processor = processor
        inputs = self.ask(ANY)
        self.tokens = int(vlm.is_visual(inputs["input_ids"]).sum())
        self.grid = token_grid(inputs, self.tokens)

    def ask(self, question: str) -> Inputs:
        """The inputs of one question about it."""
        return self._processor(images=self.image, text=question)


class HostedDoor(Door):
    """See `Door`; takes what `load` gave."""

    asking = "A transformers model encodes the picture with every question: there is no prefix to start from."

    def __init__(self, vlm: Hosted, processor: HostedProcessor):
        self.vlm, self.processor = vlm, processor
        self.name, self.shape, self.score = vlm.config.name, vlm.shape, vlm.config.score
        self.about = f"{vlm.shape.n_layers} layers; a picture's size decides how many visual tokens it has"
        note = uncalibrated(vlm.config, [DTP()])
        self.warning = f'"plan" is {note}.' if note else ""

    def scores(self) -> list[str]:
        return score_names(Target(self.vlm.model).blocks)

    def setting(self, method: str, sight: Sight) -> Setting:
        """With a score that the layers tell, see `suited`."""
        config = self.vlm.config.with_visual(self.tokens(sight))
        setting, (text,) = fitting(method, config.shape), suited([method], config)
        fields = dict(part.split("=") for part in text.partition(":")[2].split(",") if part)
        score = fields.pop("score", setting.score)
        return replace(setting, score=score, more=",".join(f"{name}={value}" for name, value in fields.items()))

    def look(self, name: str, image: Image) -> PromptSight:
        return PromptSight(name, image, self.vlm, self.processor)

    def tokens(self, sight: Sight) -> int:
        assert isinstance(sight, PromptSight)
        return sight.tokens

    def grid(self, sight: Sight) -> tuple[int, int] | None:
        assert isinstance(sight, PromptSight)
        return sight.grid

    def measured(self, sight: Sight, question: str, text: str, warm: bool) -> Result:
        assert isinstance(sight, PromptSight)
        vlm, method, inputs = self.vlm, parse(text), sight.ask(question)
        config = vlm.config.with_visual(sight.tokens)
        steps = method.checked_steps(config.shape)
        check_runnable(Target(vlm.model), steps)
        if not warm:
            vlm.start(inputs, method=method)
        answers = a_few(lambda: vlm.answer(inputs, measuring.NEW_TOKENS, method=method), _ms_of)
        last, n_layers = answers[-1], self.shape.n_layers
        kept = [replace(stage, origin=(places(vlm, inputs, stage.origin[0]),)) for stage in last.kept]
        return Result(
            method=text,
            answer=self.processor.decode(last.ids[0]),
            tokens=(sight.tokens, *(stage.counts[0] for stage in kept)),
            after=tuple(stage.after for stage in kept),
            updated=(n_layers - len(passes_of(steps)), n_layers),
            macs_share=share_of(config, method, inputs["input_ids"].shape[1] - sight.tokens),
            ms={part: median(answer.ms[part] for answer in answers) for part in PARTS},
            grid=sight.grid,
            states=patch_states(steps, kept, n_layers, sight.tokens),
        )

    def asked(self, sight: Sight, question: str, whole: Result, held: None) -> tuple[Asked, None]:
        """As it was measured: nothing is held."""
        return Asked(question, whole.method, whole.answer, True, whole.total_ms, whole.total_ms), None

    def heat(self, sight: Sight, question: str, score: str) -> Float32[np.ndarray, "L P"]:
        assert isinstance(sight, PromptSight)
        return scores_in_place(self.vlm, sight.ask(question), as_score(score))


def _ms_of(answer: HostedAnswer) -> float:
    return sum(answer.ms.values())
