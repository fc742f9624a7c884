"""Compiles every Triton kernel for an H100, with no GPU needed, and prints what each takes; run by a test.

The interpreter runs kernels that the compiler refuses, and knows nothing of registers and shared memory.
"""

import json

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from deltaprune.kernels.causal_conv1d import _triton_conv as conv
from deltaprune.kernels.rms_norm import _triton_norm as norm
from deltaprune.kernels.selective_scan import _triton_scan as scan

HALVES = frozenset({"u", "dt", "z", "B", "C", "x", "weight", "past", "out", "state", "branch", "normed"})
FLOATS = frozenset({"A", "D", "bias", "before", "ends", "totals", "after", "delta", "y", "sums", "stream"})
TYPES = {**dict.fromkeys(HALVES, "*bf16"), **dict.fromkeys(FLOATS, "*fp32"), "cu": "*i32", "eps": "fp32"}


def compiled(kernel, warps: int, **constants: object) -> dict[str, int]:
    """Shared memory (bytes) and moves between layouts of the compiled kernel."""
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else TYPES.get(name, "i32") for name in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name].startswith("*")}
    source = ASTSource(kernel, signature, {(names.index(k),): v for k, v in constants.items()}, aligned)
    options = {"num_warps": warps, "enable_fp_fusion": True}
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    return {"shared": made.metadata.shared, "cubin": len(made.asm["cubin"])}


def main() -> None:
    """Every kernel in every form that a Mamba layer of mamba-2.8b launches."""
    sizes, none = {"N": 16, "NS": 16}, dict.fromkeys(("delta", "y", "sums"))
    told = {
        "scan8": compiled(scan.scan_chunks, 1, CARRIED=True, LANES=8, **sizes, **none),
        "scan32": compiled(scan.scan_chunks, 1, CARRIED=True, LANES=32, **sizes, **none),
        "scan_extras": compiled(scan.scan_chunks, 1, CARRIED=True, LANES=32, **sizes),
        "ends32": compiled(scan.ends_of_chunks, 1, LANES=32, **sizes),
        "conv": compiled(conv.conv_rows, 4, W=4, ROWS=16, LANES=128, BOUNDS=32),
        "norm": compiled(norm.norm_rows, 8, WIDTH=2560, LANES=4096),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
