"""`Checkpoint`: a model's sizes, tokenizer and named tensors, mapped but not yet read. Every source becomes one."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Shaped
from tokenizers import Tokenizer
from torch import Tensor

from deltaprune.checkpoints.pages import MappedFiles
from deltaprune.checkpoints.quantize import SCALE, quantize_stream, quantized_names, with_quantize
from deltaprune.errors import UserError, did_you_mean, in_words
from deltaprune.mllm.network import MLLM, MLLMConfig, blank, restore_buffers, weight_dtype
from deltaprune.tensors import fold

ALIGNMENT = 64  # bytes, as in torch's own allocations and its zip files
NUMBERS = {"int8": torch.int8, "int4": torch.uint8}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Checkpoint:
    """A model that has been found and checked, name by name and shape by shape, but not built.

    Attributes:
        config: sizes and plan.
        tokenizer: of the LM.
        weights: our name -> tensor, a view of a mapped file wherever it can be one; every tensor of the model.
        sources: our name -> where the tensor comes from, "file: its name there"; not for tensors of zeros that we add.
        files: role ("config", "checkpoint", "dino", ...) -> the file that was read.
        chat_template: a Jinja text that came with the model; None is the one that `config.template` names.
        unquantized: whether `config` asks for int8 or int4 weights that `weights` still holds as they were; `read`
            quantizes them.
    """

    config: MLLMConfig
    tokenizer: Tokenizer
    weights: Mapping[str, Tensor]
    sources: Mapping[str, str]
    files: Mapping[str, Path]
    chat_template: str | None = None
    unquantized: bool = False

    def quantized(self, form: str) -> "Checkpoint":
        """The same model with int8 or int4 weights in its LM, quantized from the checkpoint's own when they are read.

        Raises:
            UserError: see `with_quantize`.
        """
        config = with_quantize(self.config, form)
        return replace(self, config=config, unquantized=self.unquantized or self.config.quantize is None)

    def dtype(self, wanted: torch.dtype | str | None = None) -> torch.dtype:
        """The model's dtype: the wanted one, or the one in which the checkpoint holds the LM's matrices.

        Raises:
            UserError: it is none of float32, bfloat16 and float16, or the checkpoint is quantized in a way of its own,
                or float16 is asked for beside int8 or int4.
        """
        ours = {} if self.unquantized else quantized_names(self.config)
        for name, weight in self.weights.items():
            plain = weight.is_floating_point() and weight.itemsize > 1
            if not (weight.dtype == NUMBERS[ours[name]] if name in ours else plain):
                raise UserError(
                    f"The checkpoint holds {weight.dtype} in {name}: of quantized weights, only those that `deltaprune "
                    "convert --quantize` wrote can be read."
                )
        own = self.weights["lm.backbone.layers.0.mixer.conv1d.weight"].dtype
        name = str(own if wanted is None else wanted).removeprefix("torch.")
        if name == "float16" and self.config.quantize is not None:
            raise UserError(
                f"{self.config.quantize} weights go with dtype='bfloat16' or 'float32', not with 'float16'."
            )
        if name in DTYPES:
            return DTYPES[name]
        if wanted is None:
            raise UserError(f"The checkpoint holds {name} weights: choose dtype={' or '.join(DTYPES)}.")
        raise UserError(f"There is no dtype {name!r}: {did_you_mean(name, DTYPES)}.")

    def read(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> Iterator[tuple[str, Tensor]]:
        """Every tensor in the model's dtype and on its device, one after the other.

        A tensor that needs no change stays a view of its file. If it is cast, moved or copied, its file's pages are
        released at once. A tensor that does not begin at a 64-byte boundary, as most in safetensors, is copied: there
        matrix products add in a different order, so the same weights would give results with other last bits.

        Raises:
            UserError: after the last one, if any held NaN or infinity, or a number too large for the dtype.
        """
        forms = quantized_names(self.config) if self.unquantized else {}
        yield from quantize_stream(self._placed(dtype, device, forms), forms)

    def sizes(self, dtype: torch.dtype) -> dict[str, int]:
        """Bytes of every tensor that `read` gives."""
        state = blank(self.config).state_dict()
        return {name: weight.numel() * kind(name, weight, dtype).itemsize for name, weight in state.items()}

    def _placed(
        self, dtype: torch.dtype, device: torch.device | str, forms: Container[str]
    ) -> Iterator[tuple[str, Tensor]]:
        """Every tensor as it is in `weights`; those in `forms` keep their own type."""
        mapped, broken, too_large = MappedFiles(self.files.values()), [], []
        for name, weight in self.weights.items():
            wanted = weight.dtype if name in forms else kind(name, weight, dtype)
            placed = weight.to(device=device, dtype=wanted).contiguous()
            if placed.data_ptr() % ALIGNMENT:
                placed = placed.clone()
            if not _finite(placed):
                (too_large if _finite(weight) else broken).append(name)
            if placed.data_ptr() != weight.data_ptr():
                mapped.give_back(weight)
            yield name, placed
        if broken:
            raise UserError(
                f"The checkpoint holds NaN or infinity in {', '.join(fold(broken))}: it is damaged, or its training "
                "diverged, so get it again."
            )
        if too_large:
            name = str(dtype).removeprefix("torch.")
            raise UserError(f"{', '.join(fold(too_large))} overflow in {name}: choose dtype='bfloat16' or 'float32'.")


def kind(name: str, weight: Tensor, dtype: torch.dtype) -> torch.dtype:
    """The dtype of a tensor in a model of this dtype: its own for what a quantized weight consists of."""
    quantized = not weight.is_floating_point() or name.endswith(SCALE)
    return weight.dtype if quantized else weight_dtype(name, dtype)


def build(
    checkpoint: Checkpoint, dtype: torch.dtype | str | None = None, device: torch.device | str | None = None
) -> MLLM:
    """The module, in evaluation mode and without gradients; no second copy of the weights ever exists.

    Args:
        checkpoint: what was found.
        dtype: see `Checkpoint.dtype`.
        device: the CPU by default; "auto" takes a GPU when one is there.

    Raises:
        UserError: the dtype or the device is not available, or the weights are not finite.
    """
    device, form = chosen_device(device), checkpoint.config.quantize
    if form is not None and device.type != "cpu":
        raise UserError(
            f"{form} weights run on the CPU: leave out device={str(device)!r}, or load the model without them."
        )
    model = blank(checkpoint.config)
    model.load_state_dict(dict(checkpoint.read(checkpoint.dtype(dtype), device)), assign=True)
    restore_buffers(model)
    return model.to(device=device).eval().requires_grad_(False)


def chosen_device(device: torch.device | str | None = None) -> torch.device:
    """Where the weights go: the CPU for None; for "auto" a GPU when one is there, else the CPU.

    Raises:
        UserError: torch cannot put a tensor there.
    """
    if device is None or device == "auto":
        return torch.device("cuda" if device is not None and torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"The device {str(device)!r} cannot be used ({in_words(error)}): choose 'auto' or 'cpu', or install a "
            "build of torch for it."
        ) from error


def move(model: MLLM, device: torch.device | str | None, dtype: torch.dtype | None) -> None:
    """Move or cast a model's weights in place; None leaves them where or as they are.

    Raises:
        UserError: torch cannot use the device, or int8 or int4 weights leave the CPU.
    """
    quantize = model.config.quantize
    if device is not None:
        if chosen_device(device).type != "cpu" and quantize is not None:
            raise UserError(f"{quantize} weights run on the CPU: they cannot move to {str(device)!r}.")
        model.to(device=chosen_device(device))
    if dtype is not None:
        for name, weight in model.named_parameters():
            weight.data = weight.data.to(kind(name, weight, dtype))


def _finite(weight: Shaped[Tensor, "..."]) -> bool:
    """No NaN and no infinity; one pass without a temporary copy."""
    low, high = torch.aminmax(weight)
    return bool(low.isfinite() and high.isfinite())
