"""VLM: a model with its end-of-text id. Every command and plugin goes from prompt to answer through it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deltaprune.answer import Answer, Look
from deltaprune.checkpoints.checkpoint import move
from deltaprune.errors import UserError
from deltaprune.fingerprint import Fingerprint
from deltaprune.generate import Sampler, Sampling, first_logits, generate, greedy
from deltaprune.methods.none import NoPruning
from deltaprune.mllm.inputs import PIXELS, check_prompts, which_image
from deltaprune.mllm.network import MLLM, MLLMConfig
from deltaprune.mllm.pictures import Pictures
from deltaprune.mllm.processor import encode_images
from deltaprune.packing import check_images, image_rows, prompt_rows
from deltaprune.prefill import Prefilled, prefill
from deltaprune.prefix import ImagePrefix
from deltaprune.rows import Rows
from deltaprune.steps import Method, Plan, Shape, Step, side_of
from deltaprune.switching import Switchable
from deltaprune.timing import timed


class VLM(Switchable):
    """A model and its end-of-text id, as `load` gives it. Several threads may use one at the same time.

        with dp.DTP(keep=0.5)(model):
            ids = model.generate(**processor(images=image, text=question), max_new_tokens=16)

    `generate` returns the ids, `answer` also what was kept and how long it took. Both call `start`, which reads the
    prompt, then `continue_from`, which decodes:

        prefilled = model.start(inputs, method=dp.DTP(keep=0.5))
        ids = model.continue_from(prefilled, max_new_tokens=16)
        print([kept.counts for kept in prefilled.kept])

    Args:
        model: the network, in evaluation mode.
        eos_id: the id that ends an answer.
    """

    def __init__(self, model: MLLM, eos_id: int):
        self.model = model
        self.eos_id = eos_id
        self._fingerprint = Fingerprint()

    @property
    def config(self) -> MLLMConfig:
        """Sizes and plan."""
        return self.model.config

    @property
    def shape(self) -> Shape:
        """What a method can know about this model."""
        return self.config.shape

    def use_plan(self, plan: Plan) -> "VLM":
        """Prune where `plan` says: from now on "plan" in a method's fields refers to it. Returns this model.

        Raises:
            UserError: `plan` is not a `Plan`.
        """
        if not isinstance(plan, Plan):
            raise UserError("use_plan takes a Plan: dp.load_plan(FILE, model.config) reads one from a file.")
        self.model.config = replace(self.config, plan=plan)
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.lm.device

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "VLM":
        """Move or cast the weights in place; those that the LM uses in float32 stay in float32, as in `load`.

        Raises:
            UserError: torch cannot use the device, or int8 or int4 weights leave the CPU.
        """
        move(self.model, device, dtype)
        return self

    @property
    def steps(self) -> tuple[Step, ...]:
        """The active method's steps on this model."""
        return () if self.method is None else self.method.checked_steps(self.shape)

    @property
    def fingerprint(self) -> str:
        """A hash of sizes, plan and weights; computed when first asked for, and again when one of them has changed."""
        return self._fingerprint.of(self.model)

    @torch.no_grad()
    def see(self, inputs: Mapping[str, Any], method: Method | str | None = None) -> Tensor | None:
        """The images' visual tokens `(I, P, d_model)`, None without images; P is smaller under a `steps.Shrink`.

        Args:
            inputs: the processor's output, of which the pixels are read.
            method: in place of the active one, see `generate`.

        Raises:
            UserError: an unknown or unfit method.
        """
        here = ((key, value.to(self.device)) for key, value in inputs.items() if key.startswith(PIXELS))
        pixels = {key.removeprefix(PIXELS): value for key, value in here}
        with self.pruned_by(method):
            return self.model.encode(pixels, side_of(self.steps)) if pixels else None

    @torch.no_grad()
    def pack(self, inputs: Mapping[str, Any], visual: Tensor | None = None) -> Rows:
        """The processor's output -> packed rows, where the model is: each row's image, then its text, without padding.

        Args:
            inputs: what the processor gave.
            visual: the result of `see` under the active method; None computes it.

        Raises:
            UserError: padding between tokens, or an `image_index` that does not fit the images.
        """
        return prompt_rows(self.model.lm, inputs, self.see(inputs) if visual is None else visual)

    @torch.no_grad()
    def encode_image(
        self,
        images: Pictures | Mapping[str, Tensor],
        visual: Tensor | None = None,
        method: Method | str | None = None,
    ) -> ImagePrefix:
        """Run the images alone, pruned by the active method; later questions can start from the result.

        Args:
            images: what the processor takes as `images=`, or its output, of which pixels and image keys are read.
            visual: the result of `see`; None computes it.
            method: in place of the active one, see `generate`.

        Raises:
            UserError: no image, or one that cannot be read; an unknown or unfit method.
        """
        if not isinstance(images, Mapping):
            images = encode_images(self.config, images).to(self.device)
        visual = self.see(images, method) if visual is None else visual
        if visual is None or len(visual) == 0:
            raise UserError("encode_image was given no image: pass one, or the processor's output for at least one.")
        rows = image_rows(visual, images.get("image_key"))
        with self.pruned_by(method):
            prefilled = prefill(self.model.lm, rows, self.steps, awaits_text=True)
            return ImagePrefix(prefilled, self.fingerprint, repr(self.method or NoPruning()))

    def start(
        self,
        inputs: Mapping[str, Any],
        prefix: ImagePrefix | None = None,
        method: Method | str | None = None,
        text_follows: bool = False,
        visual: Tensor | None = None,
        resume: Prefilled | None = None,
    ) -> Prefilled:
        """Read a prompt: its images (or their prefix) and its text. `continue_from` generates from the result.

        Args:
            inputs: the processor's output.
            prefix: `encode_image`'s result by this model under the same method; `inputs` then hold no pixels.
            method: in place of the active one, see `generate`.
            text_follows: this is the beginning of a prompt, and a row may hold no text yet.
            visual: the result of `see` for these inputs; None computes it.
            resume: the state after the same rows' earlier text, which `inputs` continue.

        Returns:
            The model's state, and in `kept` which visual tokens each stage of the method left.

        Raises:
            UserError: a row without text, an unknown input, inputs that do not fit each other or the prefix, or an
                unknown or unfit method.
        """
        if not text_follows:
            check_prompts(inputs)
        check_images(inputs, prefix, visual, self.config.towers)
        with self.pruned_by(method):
            if prefix is not None:
                prefix.check(self.fingerprint, repr(self.method or NoPruning()))
                index = which_image(inputs.get("image_index"), prefix.n_images, len(inputs["input_ids"]))
                resume = prefix.to(self.device).prefilled.repeat(index.to(self.device))
            return prefill(self.model.lm, self.pack(inputs, visual), self.steps, resume)

    def answer(
        self,
        inputs: Mapping[str, Any],
        max_new_tokens: int = 16,
        sampler: Sampler = greedy,
        prefix: ImagePrefix | None = None,
        method: Method | str | None = None,
        visual: Tensor | None = None,
    ) -> Answer:
        """The ids, what was kept, and how many milliseconds each part took.

        Args:
            inputs, prefix, method, visual: as in `start`.
            max_new_tokens: upper bound of an answer's length.
            sampler: `greedy` or a `Sampling`.

        Raises:
            UserError: as `start`, or impossible sampling.
            NonFiniteScore, NonFiniteLogits: the weights or activations overflowed.
        """
        vision = 0.0
        if visual is None and prefix is None:
            visual, vision = timed(lambda: self.see(inputs, method), self.device)
        prefilled, reading = timed(lambda: self.start(inputs, prefix, method, visual=visual), self.device)
        ids, decoding = timed(lambda: self.continue_from(prefilled, max_new_tokens, sampler), self.device)
        ms = {"vision": vision, "prefill": reading, "decode": decoding}
        if visual is None and prefix is None:
            return Answer(ids, prefilled, ms)
        with self.pruned_by(method):
            look = Look.of(inputs, self.config, side_of(self.steps))
        return Answer(ids, prefilled, ms, prefix, look)

    def continue_from(
        self, prefilled: Prefilled, max_new_tokens: int = 16, sampler: Sampler = greedy
    ) -> Int[Tensor, "B L"]:
        """Generate from what `start` has read: new ids, and errors, as in `generate`; `sampler` may be a `Sampling`."""
        return generate(self.model.lm, prefilled, self.eos_id, max_new_tokens, sampler)

    def next_logits(self, prefilled: Prefilled) -> Float[Tensor, "B V"]:
        """The logits, float32, of the token after what `start` has read.

        Raises:
            NonFiniteScore, NonFiniteLogits: the weights or activations overflowed.
        """
        return first_logits(self.model.lm, prefilled)

    def generate(
        self,
        max_new_tokens: int = 16,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        prefix: ImagePrefix | None = None,
        method: Method | str | None = None,
        **inputs: Any,
    ) -> Int[Tensor, "B L"]:
        """Generate answers: new ids `(B, L)`, rows that end early filled up with end-of-text.

        Args:
            max_new_tokens: upper bound of L.
            do_sample, temperature, top_k, top_p: sampling; greedy when `do_sample` is off.
            prefix: `encode_image`'s result under the same method; `inputs` then hold no pixels, and `image_index` is
                the image of each question.
            method: for this call, in place of the active one; an object, or a text such as "dtp:keep=0.5".
                `NoPruning()` prunes nothing.
            inputs: the processor's output.

        Raises:
            UserError: a row holds no text, an unknown input, inputs that do not fit each other or the prefix, an
                unknown or unfit method, or impossible sampling.
            NonFiniteScore, NonFiniteLogits: the weights or activations overflowed.
        """
        sampler: Sampler = Sampling(temperature, top_k, top_p) if do_sample else greedy
        return self.continue_from(self.start(inputs, prefix, method), max_new_tokens, sampler)
