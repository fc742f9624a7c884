"""No figure on a red check: a kernel that is wrong, in its output or its state, stops the measurement."""

import pkgutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from deltaprune import NoPruning, kernels
from deltaprune.cost.growth import growth
from deltaprune.cost.latency import bench
from deltaprune.cost.questions import questions
from deltaprune.cost.verify import TOLERANCE, KernelMismatch, cases, verify_kernels
from deltaprune.kernels import _backend, select, use
from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM

CPU = torch.device("cpu")
SOME = ("layer_rows", "softmax_attention")  # numba's not on every processor and type
OPS = {info.name for info in pkgutil.iter_modules(kernels.__path__) if info.ispkg}


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the numba backend of an op spoil its own result."""

    def install(spoil: Callable[[Any], None], op: str = "selective_scan") -> None:
        spoilt = f"deltaprune.kernels.{op}"
        whole = _backend._load(spoilt, "numba")
        assert isinstance(whole, _backend.Backend)

        def fn(*arguments: Any) -> Any:
            result = whole.fn(*arguments)
            spoil(result)
            return result

        ranked = tuple(replace(b, fn=fn) if b.name == "numba" else b for b in _backend._ranked(spoilt))
        real = _backend._ranked
        monkeypatch.setattr(_backend, "_ranked", lambda package: ranked if package == spoilt else real(package))

    return install


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_backends_pass_and_are_named(dtype: torch.dtype) -> None:
    plain = dict.fromkeys(OPS, "reference")
    some = {op: select(f"deltaprune.kernels.{op}", CPU, carries_state=True, dtype=dtype).name for op in SOME}
    assert verify_kernels(CPU, dtype) == {**dict.fromkeys(OPS, "numba"), **some}
    with use("reference"):
        assert verify_kernels(CPU, dtype) == plain


@pytest.mark.parametrize(
    "spoil",
    [
        lambda scan: scan.out[-1].zero_(),
        lambda scan: scan.state[1].mul_(1.01),
        lambda scan: scan.delta_mean.fill_(torch.nan),
    ],
    ids=["output", "state", "nan"],
)
def test_a_wrong_kernel_is_named(spoil: Callable[[Any], None], broken: Callable[..., None]) -> None:
    broken(spoil)
    with pytest.raises(KernelMismatch, match=r"'numba' backend of selective_scan is wrong on cpu .* seed \d+"):
        verify_kernels(CPU, torch.float32)


def test_a_wrong_score_is_named(broken: Callable[..., None]) -> None:
    broken(lambda row: row[0].mul_(2), "hidden_attention")
    with pytest.raises(KernelMismatch, match="'numba' backend of hidden_attention is wrong"):
        verify_kernels(CPU, torch.float32)


def test_every_op_is_checked() -> None:
    assert set(verify_kernels(CPU, torch.float32)) == OPS


@pytest.mark.parametrize("op", sorted(OPS))
def test_exact_is_the_reference_without_rounding(op: str) -> None:
    """In float64 throughout, but for a layer's weights, and apart from bfloat16 by its rounding alone."""
    case = cases(CPU, torch.bfloat16, lengths=(5, 0, 3), channels=6, taps=3)[op]()
    for exact, rounded in zip(case.exact(), case.run("reference"), strict=True):
        assert exact.dtype == torch.float64 or op in ("layer_rows", "layer_step", "token_step")
        assert (exact - rounded).abs().max() <= TOLERANCE[torch.bfloat16] * exact.abs().max()


def test_nothing_is_timed_on_a_wrong_kernel(tiny: tuple[VLM, Processor], broken: Callable[..., None]) -> None:
    broken(lambda scan: scan.out.zero_())
    vlm, methods = tiny[0], {"none": NoPruning()}
    for measure in (
        lambda: bench(vlm, methods, rounds=1),
        lambda: growth(vlm.model.lm, "tiny", (2, 4), rounds=1),
        lambda: questions(vlm, methods, (1,), rounds=1),
    ):
        with pytest.raises(KernelMismatch):
            measure()
