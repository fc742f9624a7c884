"""Compiles every Triton kernel for an H100, with no GPU needed, and prints what each takes; run by a test.

The interpreter runs kernels that the compiler refuses, and knows nothing of registers, shared memory and machine code.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from deltaprune.kernels.causal_conv1d import _triton_conv as conv
from deltaprune.kernels.causal_conv1d.triton import LANES as CONV_LANES
from deltaprune.kernels.causal_conv1d.triton import ROWS as CONV_ROWS
from deltaprune.kernels.hidden_attention import _triton_attention as attention
from deltaprune.kernels.layer_step import _triton_step as step
from deltaprune.kernels.layer_step.triton import CHANNELS, Plan
from deltaprune.kernels.rms_norm import _triton_norm as norm
from deltaprune.kernels.scan_state import _triton_state as state
from deltaprune.kernels.selective_scan import _triton_scan as scan
from deltaprune.kernels.selective_scan.triton import ROWS

HALVES = frozenset({"u", "dt", "z", "B", "C", "x", "weight", "past", "out", "state", "branch", "normed"})
STEP_HALVES = frozenset({"taps", "uz", "projected"})
FLOATS = frozenset({"A", "D", "bias", "before", "ends", "totals", "after", "delta", "y", "sums", "stream", "c"})
STEP_FLOATS = frozenset({"gain", "residual", "A_log"})
TYPES = {
    **dict.fromkeys(HALVES | STEP_HALVES, "*bf16"),
    **dict.fromkeys(FLOATS | STEP_FLOATS, "*fp32"),
    "cu": "*i32",
    "eps": "fp32",
}


def compiled(kernel, warps: int, types: dict[str, str] | None = None, **constants: object) -> dict[str, int]:
    """What the compiled kernel takes: shared memory and machine code in bytes, and see `machine_code`."""
    names, kinds = kernel.arg_names, {**TYPES, **(types or {})}
    signature = {name: "constexpr" if name in constants else kinds.get(name, "i32") for name in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name].startswith("*")}
    source = ASTSource(kernel, signature, {(names.index(k),): v for k, v in constants.items()}, aligned)
    options = {"num_warps": warps, "enable_fp_fusion": True}
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    cubin = made.asm["cubin"]
    return {"shared": made.metadata.shared, "cubin": len(cubin), **machine_code(cubin)}


def machine_code(cubin: bytes) -> dict[str, int]:
    """Registers and spilled bytes per thread, instructions in the longest loop (0: there is none), and wide loads
    before the wait for the launch before (0: there is no wait).
    """
    tools = triton.knobs.nvidia
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(cubin)
        usage, listing = (
            subprocess.run([tool.path, option, path], capture_output=True, text=True, check=True).stdout
            for tool, option in ((tools.cuobjdump, "-res-usage"), (tools.nvdisasm, "-c"))
        )
    registers, stack = (int(re.findall(rf"\b{name}:(\d+)", usage)[0]) for name in ("REG", "STACK"))
    early, wait, _ = listing.partition("ACQBULK")
    ahead = len(re.findall(r"\bLDG\.E\.128\b", early)) if wait else 0
    return {"registers": registers, "spilled": stack, "loop": longest_loop(listing), "ahead": ahead}


def longest_loop(listing: str) -> int:
    """Instructions from a label to the last conditional branch back to it; a bare one at the end only traps."""
    labels: dict[str, int] = {}
    instructions, longest = 0, 0
    for line in listing.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = instructions
        elif re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+\S", line):
            instructions += 1
            back = re.search(r"@!?U?P\d.*\bBRA.*(\.L_x_\d+)", line)
            if back and back[1] in labels:
                longest = max(longest, instructions - labels[back[1]])
    return longest


def steps() -> dict[str, dict[str, int]]:
    """The four launches of a decode step."""
    plan, halves = Plan(), {"bias": "*bf16", "after": "*bf16"}
    inputs = {"BATCH": 1, "K": 2560, "LANES": 4096, "ROWS": plan.held // (4096 * 2), "EARLY": True}
    inner = {"BATCH": 1, "K": 5120, "LANES": 8192, "EARLY": True}
    blocks = {"R": 160, "N": 16, "CHANNELS": CHANNELS, "RANKS": 256, "STATES": 16, "EARLY": True}
    floats = {"x": "*fp32", **halves}
    rows = plan.held // (8192 * 2)
    return {
        "in_conv": compiled(step.in_conv, plan.warps, floats, W=4, **inputs),
        "x_proj": compiled(step.product, plan.warps, residual=None, ROWS=1, **inner),
        "dt_scan": compiled(step.dt_scan, 4, **blocks),
        "out_proj": compiled(step.product, plan.warps, {"out": "*fp32"}, ROWS=rows, **inner),
    }


def main() -> None:
    """Every kernel in every form that a Mamba layer of mamba-2.8b launches."""
    sizes, none = {"N": 16, "NS": 16, "ROWS": ROWS}, dict.fromkeys(("delta", "y", "sums"))
    steps_of = {"E": 5120, "u_step": 5120, "dt_step": 5120, "B_step": 192, **sizes}
    whole = {"z_step": 10240, "C_step": 192, "CARRIED": True, **steps_of}
    part, last = ({"CARRIED": not split, "WHOLE": not split, **steps_of} for split in (True, False))
    silent = dict.fromkeys(("delta", "sums"))
    conv_sizes = {"E": 5120, "x_step": 10240, "W": 4, "ROWS": CONV_ROWS, "LANES": CONV_LANES}
    told = {
        "scan8": compiled(scan.scan_chunks, 1, LANES=8, **whole, **none),
        "scan32": compiled(scan.scan_chunks, 1, LANES=32, **whole, **none),
        "scan_extras": compiled(scan.scan_chunks, 1, LANES=32, **whole),
        "ends32": compiled(state.ends_of_chunks, 1, LANES=32, **part, **silent),
        "state8": compiled(state.ends_of_chunks, 1, LANES=8, **last, **silent),
        "state32": compiled(state.ends_of_chunks, 1, LANES=32, **last, **silent),
        "state_extras": compiled(state.ends_of_chunks, 1, LANES=32, **{**part, "CARRIED": True}),
        "fold": compiled(state.fold_chunks, 1, E=5120, N=16, NS=16, LANES=32),
        "conv": compiled(conv.conv_rows, 1, BOUNDS=32, **conv_sizes),
        "norm": compiled(norm.norm_rows, 8, WIDTH=2560, LANES=4096),
        "attention": compiled(attention.last_row, 4, {"delta": "*fp32"}, N=16, LANES=16, ROWS=32),
        **steps(),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
