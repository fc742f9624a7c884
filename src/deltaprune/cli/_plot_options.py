"""What `deltaprune plot` draws: the options of one call, and the model, picture and layers that they name."""

from typing import TYPE_CHECKING, NamedTuple

from deltaprune.cli._common import read_model_config
from deltaprune.cli._loading import ModelOptions, load_model
from deltaprune.cli._progress import Working
from deltaprune.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

    from deltaprune.mllm.network import MLLMConfig
    from deltaprune.mllm.processor import Processor
    from deltaprune.vlm import VLM

QUESTION = "What is in the picture?"


class PlotOptions(NamedTuple):
    """The options of one call; None where one was not given."""

    model: ModelOptions
    device: str = "cpu"
    image: str | None = None
    question: str | None = None
    method: str | None = None
    layers: str | None = None
    benchmark: str | None = None
    samples: int | None = None
    rule: str | None = None
    reports: tuple[str, ...] = ()

    def load(self, working: Working) -> "tuple[VLM, Processor]":
        """The model, with progress."""
        return load_model(self.model, self.device, working)

    def config(self) -> "MLLMConfig":
        """The model's configuration, before anything is loaded; a `UserError` for a model of transformers' own."""
        from deltaprune.hosted.config import HostedConfig

        config = read_model_config(self.model.model, self.model.plan, self.model.towers, self.model.tokenizer)
        if isinstance(config, HostedConfig):
            raise UserError(
                f"{self.model.model} is a model of transformers' own, of which plot draws spread and tokens, and "
                "tradeoff from reports."
            )
        return config

    def picture(self) -> "tuple[Image.Image, str]":
        """The picture and the question; without a picture the first scene, with its own question."""
        from deltaprune.ask import check_questions
        from deltaprune.benchmarks import registry
        from deltaprune.vision.images import open_image

        if self.question is not None:
            check_questions([self.question])
        if self.image is not None:
            return open_image(self.image), self.question or QUESTION
        (scene,) = registry["scenes"]().samples("val", 0, 1)
        return scene.image, self.question or scene.question

    def after(self, config: "MLLMConfig") -> list[int]:
        """The layers, ascending and counted from 1; by default the plan's two, one before and one between them."""
        from deltaprune.analysis.layers import check_layers

        n, plan, text = config.lm.n_layers, config.plan, self.layers
        if text is None:
            four = (n // 4, n // 2, 3 * n // 4, n)
            if plan is not None:
                four = (plan.early // 3, plan.early, (plan.early + plan.late) // 2, plan.late)
            return sorted({max(1, k) for k in four})
        if text == "all":
            return list(range(1, n + 1))
        try:
            after = sorted({int(part) for part in text.split(",")})
        except ValueError:
            raise UserError(f"--layers {text!r} is no list of layers: write 1,{n} or all.") from None
        check_layers(after, n)
        return after
