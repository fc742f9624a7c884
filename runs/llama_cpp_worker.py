"""llama.cpp's side of `peer_llama_cpp.py`; it runs in the environment in which llama-cpp-python was built.

    PYTHON llama_cpp_worker.py write FOLDER TYPE FILE    # the tensors in FOLDER as a GGUF file of one type
    PYTHON llama_cpp_worker.py serve FILE THREADS        # run the file: a JSON question a line, a JSON answer a line

Needs numpy, gguf and llama_cpp, and nothing of this library.
"""

import ctypes
import json
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, TextIO

import numpy as np

LAYER = {  # ours within a layer -> llama.cpp's, and whether the type applies to it
    "norm.weight": ("attn_norm.weight", False),
    "mixer.in_proj.weight": ("ssm_in.weight", True),
    "mixer.conv1d.weight": ("ssm_conv1d.weight", False),
    "mixer.conv1d.bias": ("ssm_conv1d.bias", False),
    "mixer.x_proj.weight": ("ssm_x.weight", True),
    "mixer.dt_proj.weight": ("ssm_dt.weight", True),
    "mixer.dt_proj.bias": ("ssm_dt.bias", False),
    "mixer.A_log": ("ssm_a", False),
    "mixer.D": ("ssm_d", False),
    "mixer.out_proj.weight": ("ssm_out.weight", True),
}
WHOLE = {
    "backbone.embedding.weight": ("token_embd.weight", True),
    "backbone.norm_f.weight": ("output_norm.weight", False),
}
LONGEST = 1024  # tokens of one call


def gguf_name(name: str) -> tuple[str, bool]:
    """llama.cpp's name of one of our tensors, and whether the file's type applies to it; else it is float32."""
    if name in WHOLE:
        return WHOLE[name]
    _, _, layer, inside = name.split(".", 3)  # backbone.layers.7.mixer.D
    theirs, typed = LAYER[inside]
    return f"blk.{layer}.{theirs}", typed


def gguf_values(name: str, values: np.ndarray) -> np.ndarray:
    """One of our tensors as llama.cpp stores it: A itself, the convolution without its middle axis."""
    if name.endswith("A_log"):
        return -np.exp(values)
    return values.squeeze(1) if name.endswith("conv1d.weight") else values


def write(folder: Path, kind: str, file: Path) -> None:
    """A GGUF file of the float32 tensors `FOLDER/NAME.npy`; sizes are in `FOLDER/sizes.json`."""
    import gguf  # pyright: ignore[reportMissingImports]

    sizes = json.loads((folder / "sizes.json").read_text())
    wanted = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(str(file), "mamba")
    writer.add_name("random")
    writer.add_context_length(2**20)
    writer.add_embedding_length(sizes["d_model"])
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(sizes["n_layers"])
    writer.add_ssm_conv_kernel(sizes["d_conv"])
    writer.add_ssm_inner_size(sizes["d_inner"])
    writer.add_ssm_state_size(sizes["d_state"])
    writer.add_ssm_time_step_rank(sizes["rank"])
    writer.add_layer_norm_rms_eps(sizes["norm_eps"])
    writer.add_ssm_dt_b_c_rms(False)
    writer.add_file_type(gguf.LlamaFileType["ALL_F32" if kind == "F32" else f"MOSTLY_{kind}"])
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(sizes["padded_vocab"])
    for path in sorted(folder.glob("*.npy")):
        values = gguf_values(path.stem, np.load(path))
        name, typed = gguf_name(path.stem)
        if typed and kind != "F32":
            writer.add_tensor(name, gguf.quants.quantize(values, wanted), raw_dtype=wanted)
        else:
            writer.add_tensor(name, np.ascontiguousarray(values, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Engine:
    """One model, loaded."""

    def __init__(self, file: Path, threads: int):
        import llama_cpp  # pyright: ignore[reportMissingImports]

        self.library: Any = llama_cpp
        self._said: list[str] = []
        self._log = llama_cpp.llama_log_callback(lambda level, text, data: self._said.append(text.decode()))
        llama_cpp.llama_log_set(self._log, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        loading = llama_cpp.llama_model_default_params()
        loading.n_gpu_layers, loading.use_mmap = 0, False  # in memory of its own, as ours
        self.model = llama_cpp.llama_model_load_from_file(str(file).encode(), loading)
        running = llama_cpp.llama_context_default_params()
        running.n_ctx = running.n_batch = running.n_ubatch = LONGEST
        running.n_threads = running.n_threads_batch = threads
        running.n_seq_max, running.no_perf = 1, True
        self.context = self.model and llama_cpp.llama_init_from_model(self.model, running)
        if not self.context:
            raise SystemExit("llama.cpp cannot load the file: " + "".join(self._said[-20:]))
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(LONGEST, 0, 1)

    def about(self) -> dict[str, str]:
        """Versions, and what it was built for."""
        built = self.library.llama_print_system_info().decode()
        return {"version": self.library.__version__, "built": built.strip()}

    def run(self, ids: list[int], following: list[int]) -> tuple[list[float], np.ndarray]:
        """The prompt from an empty state, then each following token: milliseconds of each, and the last logits."""
        llama = self.library
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)
        times, at, logits = [], 0, None
        for tokens in (ids, *([token] for token in following)):
            self._fill(tokens, at)
            start = time.perf_counter()
            if code := llama.llama_decode(self.context, self.batch):
                raise SystemExit(f"llama_decode ended with {code}: " + "".join(self._said[-20:]))
            llama.llama_synchronize(self.context)
            logits = llama.llama_get_logits_ith(self.context, -1)
            times.append(1000 * (time.perf_counter() - start))
            at += len(tokens)
        return times, np.ctypeslib.as_array(logits, shape=(self.n_vocab,)).copy()

    def _fill(self, tokens: list[int], at: int) -> None:
        """Tokens of the one sequence; logits of the last alone."""
        self.batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            self.batch.token[i], self.batch.pos[i] = token, at + i
            self.batch.n_seq_id[i], self.batch.seq_id[i][0] = 1, 0
            self.batch.logits[i] = int(i == len(tokens) - 1)


def serve(file: Path, threads: int, answers: TextIO) -> None:
    """Answer questions from stdin: `ids`, `following`, and the file into which the last `logits` go."""
    engine = Engine(file, threads)
    print(json.dumps(engine.about()), file=answers, flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        (prefill, *decode), logits = engine.run(question["ids"], question["following"])
        np.save(question["logits"], logits)
        print(json.dumps({"prefill": prefill, "decode": median(decode or [0.0])}), file=answers, flush=True)


def main() -> None:
    """`write` or `serve`. The libraries print on stdout, which is kept for answers."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    what, *given = sys.argv[1:]
    if what == "write":
        write(Path(given[0]), given[1], Path(given[2]))
    else:
        serve(Path(given[0]), int(given[1]), answers)


if __name__ == "__main__":
    main()
