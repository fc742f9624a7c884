"""A model of transformers' own with the door that the commands use: `answer`, `start`, `generate`."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deltaprune.errors import UserError
from deltaprune.generate import NonFiniteLogits, Sampler, Sampling, finite, greedy
from deltaprune.hosted.clock import clocked
from deltaprune.hosted.config import HostedConfig
from deltaprune.hosted.decoding import OnToken, decoding, end_ids, stopping
from deltaprune.inplace.attach import check_runnable
from deltaprune.inplace.target import Target
from deltaprune.methods.none import NoPruning
from deltaprune.pruner import Kept
from deltaprune.steps import Method, Plan, Shape, Step
from deltaprune.switching import Switchable


@dataclass(frozen=True)
class HostedAnswer:
    """What a prompt gave, and what it took.

    Attributes:
        ids: new ids, rows that end early filled up with the model's pad token.
        logits: of each row's first new token.
        kept: what each stage of the method left; empty where nothing was pruned.
        ms: milliseconds of `vision` (all before the text model), `prefill` and `decode`.
        inputs, method: what was read, and how.
    """

    ids: Int[Tensor, "B L"]
    logits: Float[Tensor, "B V"]
    kept: tuple[Kept, ...]
    ms: Mapping[str, float]
    inputs: Mapping[str, Tensor]
    method: Method


@dataclass(frozen=True)
class Found(Method):
    """The steps of another method, looked up for another shape than the one that hooks would see."""

    found: tuple[Step, ...]

    def steps(self, shape: Shape) -> tuple[Step, ...]:
        return self.found


class Hosted(Switchable):
    """A model of transformers' own. It prunes as `VLM` does, and its answers are those of transformers' `generate`.

    Threads that share one take turns: some families keep what the last prompt had (M-RoPE's offsets) in the model.

    What a `VLM` can do because its images come first and its state never grows, a `Hosted` cannot: run an image ahead
    of its questions, or continue a prompt as often as one likes. That is refused in a sentence.

    Args:
        model: as AutoModelForImageTextToText loads it.
        config: its sizes and plan.
    """

    def __init__(self, model: Any, config: HostedConfig):
        self.model = model
        self.config = config
        self._family = Target(model).family
        self._turn = threading.RLock()

    @property
    def shape(self) -> Shape:
        """What a method may know."""
        return self.config.shape

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.model.dtype

    @property
    def ends(self) -> frozenset[int]:
        """The ids that end an answer."""
        return frozenset(end_ids(self.model.generation_config))

    @property
    def fingerprint(self) -> str:
        """A hash of configuration, plan and weights, large ones sampled."""
        from deltaprune.fingerprint import digest

        plan = self.config.plan
        layers = [plan.early, plan.late, plan.withdrawal, [list(change) for change in plan.freezing]]
        about = {"config": self.model.config.to_json_string(use_diff=False), "plan": layers}
        return digest(self.model.state_dict(), about)

    def use_plan(self, plan: Plan) -> "Hosted":
        """Prune where `plan` says: what "plan" means to a method from now on."""
        self.config = replace(self.config, plan=plan)
        return self

    def check(self, method: Method) -> None:
        """A `UserError` where the method cannot prune this model."""
        check_runnable(Target(self.model), method.checked_steps(self.shape))

    def is_visual(self, ids: Int[Tensor, "B T"]) -> Tensor:
        """Which ids of a prompt are visual tokens, `(B, T)`."""
        return torch.isin(ids, torch.tensor(self._family.visual_ids(self.model.config), device=ids.device))

    @torch.no_grad()
    def answer(
        self,
        inputs: Mapping[str, Any],
        max_new_tokens: int = 16,
        sampler: Sampler = greedy,
        prefix: None = None,
        method: Method | str | None = None,
        visual: None = None,
        least: int = 1,
        on_token: OnToken | None = None,
    ) -> HostedAnswer:
        """The ids, what was kept, and how long each part took.

        Args:
            inputs: the processor's output.
            max_new_tokens: upper bound of an answer's length.
            sampler: `greedy` or a `Sampling`.
            prefix, visual: not for this model.
            method: in place of the active one.
            least: new tokens that each row has, whatever they are.
            on_token: of one prompt; called with each new id and what was kept, and ends the answer if it gives True.

        Raises:
            UserError: a method that does not fit the model, or inputs that cannot be pruned.
            NonFiniteScore, NonFiniteLogits: the weights or activations overflowed.
        """
        if prefix is not None or visual is not None:
            self.encode_image()
        if max_new_tokens < 1:
            raise UserError(f"max_new_tokens={max_new_tokens} must be at least 1.")
        given = {name: self._placed(value) for name, value in inputs.items()}
        with self.pruned_by(method):
            on = self.method or NoPruning()
            seeded = isinstance(sampler, Sampling) and sampler.generator is not None
            hooked, random = self._hooked(on, given["input_ids"]), torch.random.fork_rng(enabled=seeded)
            with self._turn, hooked as target, random:
                text = self.model.get_submodule(self._family.text)
                with clocked(self.model, text, self.device) as ms:
                    out = self.model.generate(
                        **given,
                        **decoding(self.model.generation_config, sampler),
                        max_new_tokens=max_new_tokens,
                        min_new_tokens=least - 1,  # transformers' is one of tokens that do not end the answer
                        stopping_criteria=None if on_token is None else [stopping(on_token, target)],
                        output_logits=True,
                        return_dict_in_generate=True,
                    )
        first = out.logits[0].float()
        if not bool(finite(first).all()):
            raise NonFiniteLogits(
                "The logits of the next token are not finite (NaN or infinite): load the model with another dtype, or "
                "check its weights."
            )
        kept = () if target is None else tuple(target.kept)
        return HostedAnswer(out.sequences[:, given["input_ids"].shape[1] :], first, kept, dict(ms), given, on)

    def start(self, inputs: Mapping[str, Any], method: Method | str | None = None) -> HostedAnswer:
        """Read a prompt, up to its first new token: what was kept, and the logits of that token."""
        return self.answer(inputs, 1, method=method)

    def continue_from(
        self, started: HostedAnswer, max_new_tokens: int = 16, sampler: Sampler = greedy
    ) -> Int[Tensor, "B L"]:
        """Answer what `start` has read; transformers' `generate` reads it again."""
        return self.answer(started.inputs, max_new_tokens, sampler, method=started.method).ids

    def next_logits(self, started: HostedAnswer) -> Float[Tensor, "B V"]:
        """The logits of the token after what `start` has read, float32."""
        return started.logits

    def generate(
        self,
        max_new_tokens: int = 16,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        prefix: None = None,
        method: Method | str | None = None,
        **inputs: Any,
    ) -> Int[Tensor, "B L"]:
        """Answer: new ids `(B, L)`, without the prompt; see `VLM.generate`."""
        sampler: Sampler = Sampling(temperature, top_k, top_p) if do_sample else greedy
        return self.answer(inputs, max_new_tokens, sampler, prefix, method).ids

    def encode_image(self, *_: Any, **__: Any) -> NoReturn:
        """Refused, see `Hosted`."""
        raise UserError(
            f"{self.config.name} is a model of transformers' own, whose prompts begin with text and whose attention "
            "keeps every row: an image cannot be run ahead of its questions; ask each with its picture."
        )

    see = pack = encode_image

    def _placed(self, value: Any) -> Any:
        """A tensor where the weights are; pixels in their dtype."""
        if not isinstance(value, Tensor):
            return value
        return value.to(self.device, self.dtype if value.is_floating_point() else None)

    @contextmanager
    def _hooked(self, method: Method, ids: Int[Tensor, "B T"]) -> Iterator[Target | None]:
        """The model pruned by a method, its steps found with this model's plan and the largest image's tokens."""
        n_visual = int(self.is_visual(ids).sum(1).max())
        steps = method.checked_steps(self.config.with_visual(n_visual).shape if n_visual else self.shape)
        if not steps or not n_visual:
            yield None
            return
        with Found(steps)(self.model) as target:
            yield target
