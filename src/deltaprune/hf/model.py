"""A `VLM` as a `PreTrainedModel`: transformers loads, saves and decodes, the VLM does everything else."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from deltaprune.checkpoints.folder import save_means, with_means
from deltaprune.checkpoints.mamba_lm import FLOAT32
from deltaprune.errors import UserError
from deltaprune.hf.cache import NAME, NAMES, StateCache, take_cache
from deltaprune.hf.config import DeltapruneConfig
from deltaprune.mllm.inputs import check_prompts, image_inputs, which_image
from deltaprune.mllm.network import MLLM
from deltaprune.mllm.pictures import Pictures
from deltaprune.prefix import ImagePrefix
from deltaprune.steps import Method, Plan, Shape
from deltaprune.vlm import VLM

TEXT_INPUTS = {"input_ids", "attention_mask", "use_cache", *NAMES}  # what `generate` hands to `forward`
IMAGE_INPUTS = {"images", "image_index", "prefix"}
NO_TRAINING = "is not supported: a deltaprune model cannot be trained, its forward pass keeps no gradients"


class DeltapruneForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """The model behind `AutoModelForImageTextToText`; a method's `with method(model):` works on it as on a `VLM`.

    Its tensors have the names they have in a model folder (`vision.*`, `projector.*`, `lm.*`).

    Attributes:
        vlm: the same weights as a `VLM`.
    """

    config_class = DeltapruneConfig
    main_input_name = "input_ids"
    _is_stateful = True  # a recurrence cannot take tokens back: assisted decoding is refused
    _keep_in_fp32_modules_strict = {"lm.*" + name for name in FLOAT32}  # noqa: RUF012

    def __init__(self, config: DeltapruneConfig):
        super().__init__(config)
        if getattr(config, "eos_token_id", None) is None:
            raise UserError('The model\'s config.json lacks "eos_token_id": save the folder again, or add it.')
        if config.mllm.quantize is not None:
            raise UserError(
                f"transformers cannot load {config.mllm.quantize} weights of this library: use deltaprune.load."
            )
        model = MLLM(config.mllm)
        self.vision, self.projector, self.lm = model.vision, model.projector, model.lm
        self.vlm = VLM(model, config.eos_token_id)
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any = None, *args: Any, **kwargs: Any) -> Any:
        """`PreTrainedModel.from_pretrained`; a local folder's mean states are read with its plan."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        folder, plan = Path(pretrained_model_name_or_path or ""), model.vlm.config.plan
        if pretrained_model_name_or_path and folder.is_dir() and plan is not None:
            model.vlm.use_plan(with_means(plan, folder))
        return loaded

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """`PreTrainedModel.save_pretrained`, and the plan's mean states."""
        super().save_pretrained(save_directory, *args, **kwargs)
        save_means(self.vlm.config.plan, Path(save_directory))

    @property
    def method(self) -> Method | None:
        """The method that is on in this thread, see `VLM.method`; set it by `with method(model):`."""
        return self.vlm.method

    @method.setter
    def method(self, method: Method | None) -> None:
        self.vlm.method = method

    @property
    def shape(self) -> Shape:
        """What a method may know."""
        return self.vlm.shape

    def get_input_embeddings(self) -> nn.Embedding:
        return self.lm.backbone.embedding

    def use_plan(self, plan: Plan) -> "DeltapruneForConditionalGeneration":
        """Prune where `plan` says, see `VLM.use_plan`; `save_pretrained` stores it."""
        self.vlm.use_plan(plan)
        self.config.plan = plan.to_dict()
        return self

    def encode_image(self, images: Pictures | Mapping[str, Tensor], method: Method | str | None = None) -> ImagePrefix:
        """Run images alone; `generate(prefix=...)` goes on from there, see `VLM.encode_image`."""
        return self.vlm.encode_image(images, method=method)

    def train(self, mode: bool = True) -> "DeltapruneForConditionalGeneration":
        """Evaluation mode is the only one: `mode=True` raises a `UserError`."""
        if mode:
            raise UserError(f"train() {NO_TRAINING}; leave the model in evaluation mode.")
        return super().train(False)

    @torch.no_grad()
    def forward(
        self,
        input_ids: Int[Tensor, "B L"],
        attention_mask: Tensor | None = None,
        image_index: Tensor | None = None,
        images: Mapping[str, Tensor] | None = None,
        prefix: ImagePrefix | None = None,
        cache: StateCache | None = None,
        use_cache: bool | None = None,
        return_dict: bool | None = None,
        past_key_values: StateCache | None = None,
        **pixels: Tensor | None,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Logits `(B, 1, V)` after each row's last token; pruning leaves no rows for those before it.

        Args:
            input_ids: text only, the image comes first implicitly; with a cache, the columns that follow.
            attention_mask: zeros for padding, on the left or on the right; for all columns or those in `input_ids`.
            image_index: the image of each row.
            images, pixels: `pixel_values_<tower>` and `image_key`, in one mapping or one by one.
            prefix: in place of images, see `VLM.encode_image`.
            cache, past_key_values: two names of one argument, that of an earlier output; it is changed in place. The
                output has the name that the installed transformers uses: `cache` since 5.24.
            use_cache: False gives no cache back.
            return_dict: False gives a tuple.

        Raises:
            UserError: an unknown input, inputs that do not fit each other, or `labels`: there is no loss.
            NonFiniteScore, NonFiniteLogits: the weights or activations overflowed.
        """
        if pixels.pop("labels", None) is not None:
            raise UserError(f"labels= {NO_TRAINING} and gives no loss; leave labels out.")
        inputs: dict[str, Any] = {"input_ids": input_ids, **(images or {}), **pixels}
        if attention_mask is not None:
            inputs["attention_mask"] = attention_mask[:, -input_ids.shape[1] :]
        if image_index is not None:
            inputs["image_index"] = image_index
        state = take_cache({"cache": cache, "past_key_values": past_key_values}) or StateCache()
        logits = state.extend(self.vlm, inputs, prefix)
        output = CausalLMOutputWithPast(logits=logits[:, None])
        if use_cache is not False:
            output[NAME] = state
        return output.to_tuple() if return_dict is False else output

    @torch.no_grad()
    def generate(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *,
        method: Method | str | None = None,
        **kwargs: Any,
    ) -> Any:
        """`GenerationMixin.generate`: each row's prompt, then its new ids.

        Args:
            inputs: `input_ids`, here or by name.
            generation_config, kwargs: as everywhere in transformers (`max_new_tokens`, `do_sample`, `stop_strings` with
                `tokenizer`, `eos_token_id`, `streamer`, ...), the processor's output, and `prefix`.
            method: for this call, in place of the active one, see `VLM.generate`.

        Raises:
            UserError: `prefill_chunk_size` together with pruning, hidden states or attentions as output, an empty row,
                inputs that do not fit each other, or an unknown or unfit method.
            NonFiniteScore, NonFiniteLogits: the weights or activations overflowed.
        """
        with self.vlm.pruned_by(method):
            return self._generate(inputs, generation_config, kwargs)

    def _generate(
        self, inputs: Tensor | None, generation_config: GenerationConfig | None, kwargs: dict[str, Any]
    ) -> Any:
        for name in ("output_attentions", "output_hidden_states"):
            if self._setting(name, generation_config, kwargs):
                raise UserError(
                    f"{name}=True is not supported: there are no attentions, and pruned layers differ in rows."
                )
        chunk = self._setting("prefill_chunk_size", generation_config, kwargs)
        if chunk is not None and self.vlm.steps:
            raise UserError(
                f"prefill_chunk_size={chunk} would cut up the prompt that {self.method!r} prunes as a whole: leave out "
                "one of the two."
            )
        cache = take_cache(kwargs)
        if cache is None:
            ids = kwargs.get("input_ids") if inputs is None else inputs
            kwargs |= self._prompt_inputs(ids, kwargs)
            if self._setting("use_cache", generation_config, kwargs) is not False:
                cache = StateCache()
        if cache is not None:
            kwargs[NAME] = cache
        generate: Any = super().generate  # pyright: ignore[reportAttributeAccessIssue]
        with nullcontext() if cache is None else cache.generating(self.vlm):
            return generate(inputs, generation_config, **kwargs)

    def prepare_inputs_for_generation(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, input_ids: Int[Tensor, "B L"], **kwargs: Any
    ) -> dict[str, Any]:
        """What `forward` takes at the next step: images only until a cache holds them."""
        prepare: Any = super().prepare_inputs_for_generation  # pyright: ignore[reportAttributeAccessIssue]
        inputs = prepare(input_ids, **kwargs)
        cache = inputs.get(NAME)
        known = TEXT_INPUTS if isinstance(cache, StateCache) and cache.length > 0 else TEXT_INPUTS | IMAGE_INPUTS
        return {name: value for name, value in inputs.items() if name in known}

    def _prompt_inputs(self, ids: Tensor | None, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The image's tensors as one argument `images`, which is not repeated with the rows, and every row's image."""
        check_prompts({"input_ids": ids, "attention_mask": kwargs.get("attention_mask")})
        assert ids is not None
        names = image_inputs(self.vlm.config.towers)
        images = {name: kwargs.pop(name) for name in list(kwargs) if name in names}
        prefix = kwargs.get("prefix")
        if prefix is None and not images:
            return {}
        n_images = len(next(iter(images.values()))) if prefix is None else prefix.n_images
        return {"images": images, "image_index": which_image(kwargs.get("image_index"), n_images, len(ids))}

    def _setting(self, name: str, config: GenerationConfig | None, kwargs: Mapping[str, Any]) -> Any:
        """A generation setting: the argument, else the given configuration's, else the model's own."""
        values = (kwargs.get(name), getattr(config, name, None), getattr(self.generation_config, name, None))
        return next((value for value in values if value is not None), None)
