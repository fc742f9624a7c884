"""The class that lmms-eval drives; everything that needs no lmms-eval is in the files beside it."""

from collections.abc import Sequence
from typing import Any

from accelerate import Accelerator  # pyright: ignore[reportMissingImports]
from lmms_eval.api.model import lmms  # pyright: ignore[reportMissingImports]
from lmms_eval.utils import simple_parse_args_string  # pyright: ignore[reportMissingImports]
from tqdm import tqdm

from deltaprune.calibrate import load_plan
from deltaprune.lmms_eval.answers import answer
from deltaprune.lmms_eval.questions import read_requests
from deltaprune.lmms_eval.settings import choose_device, join, read_settings
from deltaprune.load import load
from deltaprune.methods import parse


class DeltapruneModel(lmms):
    """A model of this library under one pruning method, for lmms-eval's tasks that generate text.

    Attributes:
        vlm, processor, method: what answers. They outlive `clean`, so the object can be used for another evaluation.
        accelerator, device, rank, world_size: as lmms-eval expects them; one process per GPU.
    """

    is_simple = False

    def __init__(self, **model_args: Any):
        """Model_args: see `Settings`.

        Raises:
            UserError: an unknown or impossible model_arg, or a model that cannot be loaded.
        """
        super().__init__()
        settings = read_settings(model_args)
        self.accelerator = Accelerator()
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        self.method, self.batch_size = parse(settings.method), settings.batch_size
        self.device = choose_device(settings.device, self._world_size, self.accelerator.local_process_index)
        self.vlm, self.processor = load(
            settings.pretrained,
            towers=settings.towers,
            tokenizer=settings.tokenizer,
            dtype=settings.dtype,
            device=self.device,
        )
        if settings.plan is not None:
            self.vlm.use_plan(load_plan(settings.plan, self.vlm.config))
        self.method.checked_steps(self.vlm.shape)

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None):
        """How the command line makes one: model_args as text, and its own options for batch size and device."""
        return cls(**join(simple_parse_args_string(arg_string), additional_config or {}))

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Answers in the order of the requests. An error in one of them ends the run and names the document."""
        answers: dict[int, str] = {}
        progress = tqdm(total=len(requests), disable=self.rank != 0, desc="deltaprune")
        with progress, self.method(self.vlm):
            questions = read_requests((request.args for request in requests), self.task_dict, self.processor)
            for place, text in answer(self.vlm, self.processor, questions, self.batch_size):
                answers[place] = text
                progress.update()
        return [answers[place] for place in range(len(requests))]

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Not supported: lmms-eval asks for log-probabilities and then takes the smallest as the best (api/task.py)."""
        raise NotImplementedError(
            "deltaprune has no loglikelihood for lmms-eval, whose scorer and documentation disagree about its sign: "
            "choose a task that generates text."
        )

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not supported: a later round may bring a picture, and here the one picture comes before all text."""
        raise NotImplementedError("deltaprune answers single rounds: choose a task of output_type generate_until.")
