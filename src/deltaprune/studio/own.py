"""The door to a model of our own: its towers run once for a picture, and questions start from the picture's prefix."""

from statistics import median

import numpy as np
import torch
from jaxtyping import Float32
from PIL.Image import Image
from torch import Tensor

from deltaprune.analysis import layer_scores
from deltaprune.answer import Answer
from deltaprune.cost import share_of
from deltaprune.cuda_graphs.prefills import WARM_UP
from deltaprune.methods import parse
from deltaprune.methods.none import NoPruning
from deltaprune.mllm.processor import Inputs, Processor
from deltaprune.prefix import ImagePrefix
from deltaprune.scores import as_score
from deltaprune.steps import Method, passes_of, seen_by_towers, side_of
from deltaprune.studio import result as measuring
from deltaprune.studio.choices import Setting, fitting, score_names
from deltaprune.studio.door import Door
from deltaprune.studio.layers import patch_states
from deltaprune.studio.result import Asked, Result
from deltaprune.studio.sight import Sight, a_few
from deltaprune.timing import timed
from deltaprune.vlm import VLM


class TowersSight(Sight):
    """A picture, encoded once for each size that a method shows to the towers.

    Args:
        name, image: of the picture.
        vlm, processor: of the door.

    Attributes:
        pixels: the processor's output, where the model is.
    """

    def __init__(self, name: str, image: Image, vlm: VLM, processor: Processor):
        super().__init__(name, image)
        self.pixels = processor.encode_images([image]).to(vlm.device)
        self._vlm, self._processor = vlm, processor
        self._seen: dict[int | None, tuple[Tensor, float]] = {}

    def seen(self, method: Method) -> tuple[Tensor, float]:
        """The visual tokens `(1, P, d_model)` under a method, and how many milliseconds the towers take."""
        side = side_of(method.checked_steps(self._vlm.shape))
        if side not in self._seen:
            runs = a_few(
                lambda: timed(lambda: self._vlm.see(self.pixels, method), self._vlm.device), lambda run: run[1]
            )
            visual = runs[0][0]
            assert visual is not None
            self._seen[side] = visual, median(ms for _, ms in runs)
        return self._seen[side]

    def ask(self, question: str) -> Inputs:
        """The inputs of one question about it, without the pixels."""
        text = self._processor.encode_text([question])
        image_key = self.pixels["image_key"]
        return Inputs(**text, image_index=torch.zeros(1, dtype=torch.int64), image_key=image_key).to(image_key.device)


class OwnDoor(Door):
    """See `Door`; takes what `load` gave."""

    asking = "Setting A runs the picture once; later questions start from its prefix."
    warning = ""
    score = "delta"

    def __init__(self, vlm: VLM, processor: Processor):
        self.vlm, self.processor = vlm, processor
        self.name, self.shape = vlm.config.name, vlm.shape
        self.about = f"{vlm.shape.n_layers} layers, {vlm.shape.n_visual} visual tokens an image"

    def scores(self) -> list[str]:
        return score_names(self.vlm.model.lm.blocks)

    def setting(self, method: str, sight: Sight) -> Setting:
        return fitting(method, self.shape)

    def look(self, name: str, image: Image) -> TowersSight:
        return TowersSight(name, image, self.vlm, self.processor)

    def tokens(self, sight: Sight) -> int:
        return self.shape.n_visual

    def grid(self, sight: Sight) -> tuple[int, int]:
        return self._grid(NoPruning())

    def _grid(self, method: Method) -> tuple[int, int]:
        """Rows and columns of patches, which all towers share, in the picture that a method shows to them."""
        config = self.vlm.config.shrunk(side_of(method.checked_steps(self.shape)))
        tower = next(iter(config.towers.values()))
        side = tower.image_size // tower.patch_size
        return side, side

    def measured(self, sight: Sight, question: str, text: str, warm: bool) -> Result:
        assert isinstance(sight, TowersSight)
        vlm, method = self.vlm, parse(text)
        steps = method.checked_steps(self.shape)
        visual, vision_ms = sight.seen(method)
        inputs = sight.ask(question)
        for _ in range(WARM_UP if vlm.device.type == "cuda" else not warm):
            vlm.start(inputs, method=method, visual=visual)
        answers = a_few(lambda: vlm.answer(inputs, measuring.NEW_TOKENS, method=method, visual=visual), _ms_of)
        last, n_layers = answers[-1], self.shape.n_layers
        n_visual = seen_by_towers(steps, self.shape).n_visual
        ms = {part: median(answer.ms[part] for answer in answers) for part in ("prefill", "decode")}
        return Result(
            method=text,
            answer=self.processor.decode(last.ids[0]),
            tokens=(n_visual, *(stage.counts[0] for stage in last.kept)),
            after=tuple(stage.after for stage in last.kept),
            updated=(n_layers - len(passes_of(steps)), n_layers),
            macs_share=share_of(vlm.config, method, int(inputs["attention_mask"].sum())),
            ms={"vision": vision_ms, **ms},
            grid=self._grid(method),
            states=patch_states(steps, last.kept, n_layers, n_visual),
        )

    @torch.no_grad()
    def asked(self, sight: Sight, question: str, whole: Result, held: ImagePrefix | None) -> tuple[Asked, ImagePrefix]:
        """From the picture's prefix, and from scratch beside it, in turns, so that a busy machine slows both.

        Without a prefix the picture is run now, and its prefix comes back as well.
        """
        assert isinstance(sight, TowersSight)
        vlm, method, inputs, first = self.vlm, parse(whole.method), sight.ask(question), held is None
        visual, vision_ms = sight.seen(method)
        reading = 0.0
        if held is None:
            held, reading = timed(lambda: vlm.encode_image(sight.pixels, visual, method), vlm.device)
            reading += vision_ms
        prefix = held

        def both() -> tuple[Answer, Answer]:
            return (
                vlm.answer(inputs, measuring.NEW_TOKENS, method=method, visual=visual),
                vlm.answer(inputs, measuring.NEW_TOKENS, prefix=prefix, method=method),
            )

        if first:
            both()  # the first time compiles, or touches memory
        pairs = a_few(both, lambda pair: sum(_ms_of(answer) for answer in pair))
        scratch, took = (median(_ms_of(pair[i]) for pair in pairs) for i in (0, 1))
        said = self.processor.decode(pairs[-1][1].ids[0])
        return Asked(question, whole.method, said, first, vision_ms + scratch, reading + took), prefix

    def heat(self, sight: Sight, question: str, score: str) -> Float32[np.ndarray, "L P"]:
        assert isinstance(sight, TowersSight)
        inputs = Inputs({**sight.pixels, **sight.ask(question)})
        return layer_scores(self.vlm, inputs, as_score(score)).scores[:, 0]


def _ms_of(answer: Answer) -> float:
    return sum(answer.ms.values())
