"""Which weights of a model are quantized, and how a model with other weights becomes one with these."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from torch import Tensor

from deltaprune.blocks.quantized import forms_in_mixer
from deltaprune.blocks.sizes import MambaConfig
from deltaprune.checkpoints.mamba_lm import EMBEDDING
from deltaprune.errors import UserError, did_you_mean
from deltaprune.kernels.quantized import FORMS, GROUP, quantize
from deltaprune.mllm.network import MLLM, MLLMConfig, blank, restore_buffers

SCALE = ".scale"


def quantized_in_lm(config: MambaConfig, form: str) -> dict[str, str]:
    """The weights of an LM of these sizes that are int8 or int4 under a form: name -> which."""
    mixers, forms = (f"backbone.layers.{l}.mixer." for l in range(config.n_layers)), forms_in_mixer(config, form)
    return {EMBEDDING: form, **{f"{mixer}{name}.weight": own for mixer in mixers for name, own in forms.items()}}


def quantized_names(config: MLLMConfig) -> dict[str, str]:
    """The weights that a quantized model of these sizes has in int8 or int4: name -> which."""
    if config.quantize is None:
        return {}
    return {f"lm.{name}": form for name, form in quantized_in_lm(config.lm, config.quantize).items()}


def scale_of(name: str) -> str:
    """The name of the scales that belong to a quantized weight."""
    return name.removesuffix(".weight") + SCALE


def with_quantize(config: MLLMConfig, form: str) -> MLLMConfig:
    """The configuration of the same model with int8 or int4 weights.

    Raises:
        UserError: an unknown form, a model that is quantized in another one, or widths that are no multiples of 32.
    """
    if form not in FORMS:
        raise UserError(f"quantize={form!r} is unknown: {did_you_mean(form, FORMS)}.")
    if config.quantize not in (None, form):
        raise UserError(
            f"{config.name} is quantized to {config.quantize} already: leave out quantize={form!r}, or take the model "
            "that it was made from."
        )
    if config.lm.d_model % GROUP or config.lm.d_inner % GROUP:
        raise UserError(
            f"quantize={form!r} needs widths that are multiples of {GROUP}: those of {config.name} are "
            f"{config.lm.d_model} and {config.lm.d_inner}."
        )
    return replace(config, quantize=form)


def quantize_stream(weights: Iterable[tuple[str, Tensor]], forms: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
    """The same tensors, but numbers and scales in place of the weights that `forms` names."""
    for name, weight in weights:
        if name in forms:
            numbers, scale = quantize(weight, forms[name])
            yield name, numbers
            yield scale_of(name), scale
        else:
            yield name, weight


def quantize_model(model: MLLM, form: str) -> MLLM:
    """The same model with int8 or int4 weights in its LM; all other tensors are shared.

    Raises:
        UserError: see `with_quantize`.
    """
    config = with_quantize(model.config, form)
    made = blank(config)
    held = {} if model.config.quantize else quantized_names(config)
    made.load_state_dict(dict(quantize_stream(model.state_dict().items(), held)), assign=True)
    restore_buffers(made)
    return made.eval().requires_grad_(False)
