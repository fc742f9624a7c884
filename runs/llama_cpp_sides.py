"""The two sides of `peer_llama_cpp.py`, ours and llama.cpp's, and the tensors that both get."""

import json
import math
import subprocess
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.checkpoints.mamba_lm import kept_in_float32
from deltaprune.checkpoints.quantize import quantize_stream, quantized_in_lm
from deltaprune.cuda_graphs.step import stepping
from deltaprune.kernels.quantized import FORMS
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import prefill
from deltaprune.rows import Rows

WORKER = Path(__file__).with_name("llama_cpp_worker.py")


class Ran(NamedTuple):
    """A prompt, and some tokens after it.

    Attributes:
        prefill: milliseconds of the prompt, up to its last logits.
        decode: milliseconds of one following token, median; 0 without any.
        logits: the last ones.
    """

    prefill: float
    decode: float
    logits: np.ndarray


class Side(Protocol):
    """What runs prompts."""

    def run(self, ids: list[int], following: list[int]) -> Ran:
        """The prompt from an empty state, then each following token."""
        ...


class Ours:
    """This library's LM of a type: a name of torch's, or a form of `quantize`, then with bfloat16 activations."""

    def __init__(self, config: MambaConfig, folder: Path, kind: str):
        self.lm = blank(config)
        dtype = torch.bfloat16 if kind in FORMS else getattr(torch, kind)
        tensors = {name: torch.from_numpy(np.load(folder / f"{name}.npy")) for name in self.lm.state_dict()}
        cast = {name: t if kept_in_float32(name) else t.to(dtype) for name, t in tensors.items()}
        if kind in FORMS:
            self.lm.prepare_quantized(kind)
            cast = dict(quantize_stream(cast.items(), quantized_in_lm(config, kind)))
        self.lm.load_state_dict(cast, assign=True)
        self.lm.eval().requires_grad_(False)

    @torch.no_grad()
    def run(self, ids: list[int], following: list[int]) -> Ran:
        """See `Side`."""
        start = time.perf_counter()
        x = self.lm.embed(torch.tensor(ids))
        done = prefill(self.lm, Rows.pack([x[:0]], [x]))
        logits = self.lm.logits(done.hidden)
        prompt, times = _since(start), []
        with stepping(self.lm, list(done.states)) as step:
            for token in following:
                start = time.perf_counter()
                logits = step(torch.tensor([token]))
                times.append(_since(start))
        return Ran(prompt, median(times or [0.0]), logits[0].numpy())


class LlamaCpp:
    """llama.cpp on one file, in a process of its own.

    Attributes:
        about: its versions, and what it was built for.
    """

    def __init__(self, python: Path, file: Path):
        command = [str(python), str(WORKER), "serve", str(file), str(torch.get_num_threads())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._logits = file.with_suffix(".logits.npy")
        self.about: dict[str, str] = self._answer()

    def run(self, ids: list[int], following: list[int]) -> Ran:
        """See `Side`."""
        question = {"ids": ids, "following": following, "logits": str(self._logits)}
        assert self._process.stdin is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        answer = self._answer()
        return Ran(answer["prefill"], answer["decode"], np.load(self._logits))

    def close(self) -> None:
        """Let the process end."""
        self._process.communicate()
        self._logits.unlink(missing_ok=True)

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"llama.cpp's process ended with code {self._process.wait()}; its last words are above.")
        return json.loads(line)


def blank(config: MambaConfig) -> MambaLM:
    """The LM on "meta"."""
    with torch.device("meta"):
        return MambaLM(config)


def write_tensors(config: MambaConfig, folder: Path) -> None:
    """Random tensors of an LM as `FOLDER/NAME.npy`, float32, and its sizes as `FOLDER/sizes.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in blank(config).state_dict().items():
        np.save(folder / f"{name}.npy", _drawn(name, tuple(tensor.shape), config.n_layers, generator).numpy())
    derived = {name: getattr(config, name) for name in ("d_inner", "rank", "padded_vocab")}
    (folder / "sizes.json").write_text(json.dumps({**asdict(config), **derived}))


def write_file(python: Path, folder: Path, kind: str) -> Path:
    """The tensors as llama.cpp's file of a type; one that is there is kept."""
    file = folder / f"{kind}.gguf"
    if not file.exists():
        part = file.with_suffix(".part")
        subprocess.run([str(python), str(WORKER), "write", str(folder), kind, str(part)], check=True)
        part.rename(file)
    return file


def _drawn(name: str, shape: tuple[int, ...], layers: int, generator: torch.Generator) -> Tensor:
    """mamba_ssm's initialisation with noise on everything, so that the check of the logits sees every tensor."""
    noise = torch.randn(shape, generator=generator)
    if name.endswith("A_log"):
        return torch.arange(1.0, shape[1] + 1).log() + 0.05 * noise
    if name.endswith("dt_proj.bias"):  # softplus of it lies between 0.001 and 0.1
        steps = torch.rand(shape, generator=generator).mul(math.log(100)).add(math.log(1e-3)).exp()
        return steps.expm1().log()
    if name.endswith(("norm.weight", "norm_f.weight", "mixer.D")):
        return 1 + 0.1 * noise
    if len(shape) == 1:
        return 0.1 * noise
    spread = 0.02 if "embedding" in name else shape[-1] ** -0.5
    return noise * (spread / math.sqrt(layers) if name.endswith("out_proj.weight") else spread)


def _since(start: float) -> float:
    return 1000 * (time.perf_counter() - start)
