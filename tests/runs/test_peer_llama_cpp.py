"""`runs/peer_llama_cpp.py`: both sides get every tensor, a time is taken only after they agreed, nothing is lost."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import llama_cpp_sides as sides
import peer_llama_cpp as script
from deltaprune.blocks.sizes import MambaConfig
from llama_cpp_sides import LlamaCpp, Ours, Ran, blank, write_tensors
from llama_cpp_tables import page, together, verdict
from llama_cpp_worker import gguf_name, gguf_values
from peer_llama_cpp import CASES, TYPES, Disagree, config_of, measure

TINY = MambaConfig(d_model=32, n_layers=2, vocab_size=60)
FLOAT32 = TYPES["float32"]
SOURCE = dict.fromkeys(("command", "commit", "date", "torch", "python"), "x")

# Stands in for llama.cpp's process: it says how it was called, and answers with the sum of the ids as its logits.
STUB = """
import json, sys
import numpy as np
print(json.dumps({"version": "1.2", "built": " ".join(sys.argv[1:])}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if sum(asked["ids"]) == 13:
        sys.exit(3)
    np.save(asked["logits"], np.full(4, sum(asked["ids"] + asked["following"]), np.float32))
    print(json.dumps({"prefill": len(asked["ids"]), "decode": len(asked["following"])}), flush=True)
"""


class Fake:
    """A side that takes given times, one for each run, and says that it ran."""

    def __init__(self, name: str, times: list[float], heard: list[tuple[str, int]], logits: float = 1.0):
        self.name, self.times, self.heard, self.logits = name, iter(times), heard, logits

    def run(self, ids: list[int], following: list[int]) -> Ran:
        self.heard.append((self.name, len(ids)))
        ms = next(self.times)
        return Ran(ms, ms / 8 if following else 0.0, np.full(60, self.logits))


def fakes(ours: list[float], theirs: list[float], logits: float = 1.0) -> tuple[Fake, Fake, list[tuple[str, int]]]:
    heard: list[tuple[str, int]] = []
    return Fake("ours", ours, heard), Fake("theirs", theirs, heard, logits), heard


def test_the_two_take_turns_and_ratios_are_taken_within_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "SETTLE", 0.0)
    checks = [9.0, 9.0, 9.0]
    ours, theirs, heard = fakes([*checks, 10, 5, 1, 40, 5, 1, 20, 5, 1], [*checks, 20, 5, 2, 40, 5, 3, 60, 5, 4])
    rows = measure(FLOAT32, ours, theirs, TINY.vocab_size, rounds=3)
    assert heard == [(name, n) for _ in range(4) for n in (752, 388, 23) for name in ("ours", "theirs")]
    assert [(row["part"], row["rows"]) for row in rows] == [(case.part, case.rows) for case in CASES]
    assert [row["ratio"] for row in rows] == [2, 1, 3, 3]
    assert (rows[0]["ours_ms"], rows[0]["theirs_ms"]) == (20, 40)
    assert (rows[3]["ours_ms"], rows[3]["theirs_ms"]) == (0.125, 0.375)
    assert [row["verdict"] for row in rows] == ["reported", "reported", "met", "met"]


@pytest.mark.parametrize("logits", [1.01, float("nan")])
def test_nothing_is_timed_where_the_logits_disagree(logits: float) -> None:
    ours, theirs, heard = fakes([9.0], [9.0], logits)
    with pytest.raises(Disagree, match="F32 and our float32 disagree after 752 rows"):
        measure(FLOAT32, ours, theirs, TINY.vocab_size, rounds=1)
    assert len(heard) == 2


@pytest.mark.parametrize(
    ("ratio", "target", "said"),
    [(1.2, 1.2, "met"), (1.0, 1.2, "MISSED by 0.20"), (float("nan"), 1.2, "MISSED by nan"), (0.1, None, "reported")],
)
def test_verdict(ratio: float, target: float | None, said: str) -> None:
    assert verdict(ratio, target) == said


def test_llama_cpp_has_a_name_for_every_tensor() -> None:
    names = [gguf_name(name)[0] for name in blank(TINY).state_dict()]
    assert len(set(names)) == len(names) == 2 + 2 * 10
    assert gguf_name("backbone.layers.1.mixer.dt_proj.weight") == ("blk.1.ssm_dt.weight", True)
    matrices = [name for name, tensor in blank(TINY).state_dict().items() if gguf_name(name)[1]]
    assert all(name.endswith(("embedding.weight", "proj.weight")) for name in matrices)
    assert len(matrices) == 1 + 2 * 4


def test_llama_cpp_stores_a_itself_and_a_flat_convolution() -> None:
    values = np.log(np.array([[1.0, 2.0]], np.float32))
    assert gguf_values("backbone.layers.0.mixer.A_log", values) == pytest.approx(np.array([[-1.0, -2.0]]))
    assert gguf_values("backbone.layers.0.mixer.conv1d.weight", np.zeros((6, 1, 4))).shape == (6, 4)


def test_ours_runs_what_was_written(tmp_path: Path) -> None:
    write_tensors(TINY, tmp_path)
    written = json.loads((tmp_path / "sizes.json").read_text())
    assert (written["d_inner"], written["rank"], written["padded_vocab"]) == (64, 2, 64)
    ours, coarse = (Ours(TINY, tmp_path, name) for name in ("float32", "bfloat16"))
    assert all(tensor.std() > 0 for tensor in ours.lm.state_dict().values()), (
        "the check of the logits sees every tensor"
    )
    ids = [5, 9, 2, 33, 7]
    ran, expected = ours.run(ids[:3], ids[3:]), ours.lm(torch.tensor([ids]))[0, -1]
    assert torch.from_numpy(ran.logits).allclose(expected, atol=1e-5)
    assert min(ran.prefill, ran.decode) > 0 == ours.run(ids, []).decode
    for side, most in ((coarse, 0.05), (Ours(TINY, tmp_path, "int8"), 0.1), (Ours(TINY, tmp_path, "int4"), 0.3)):
        apart = np.linalg.norm(side.run(ids, []).logits - ran.logits) / np.linalg.norm(ran.logits)
        assert 1e-4 < apart < most


def test_the_other_process_answers_and_its_end_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = tmp_path / "stub.py"
    stub.write_text(STUB)
    monkeypatch.setattr(sides, "WORKER", stub)
    theirs = LlamaCpp(Path(sys.executable), tmp_path / "F32.gguf")
    assert theirs.about["built"] == f"serve {tmp_path / 'F32.gguf'} {torch.get_num_threads()}"
    ran = theirs.run([1, 2], [3])
    assert (ran.prefill, ran.decode, ran.logits.tolist()) == (2, 1, [6.0] * 4)
    with pytest.raises(SystemExit, match="ended with code 3"):
        theirs.run([13], [])
    theirs.close()
    assert not list(tmp_path.glob("*.npy"))


def part(kind: str, device: str, ratio: float) -> dict:
    row = {
        "part": "decode",
        "rows": 23,
        "ours_ms": 1.0,
        "theirs_ms": ratio,
        "ratio": ratio,
        "target": 1.1,
        "apart": 0.0,
    }
    rows = [{**row, "verdict": verdict(ratio, 1.1)}]
    source = {**SOURCE, "device": device}
    return {"type": kind, "theirs": "T", "layers": 8, "llama_cpp": "v", "provenance": source, "rows": rows}


def test_a_later_run_replaces_its_type_on_its_processor_alone() -> None:
    old = [part("float32", "A", 0.5), part("bfloat16", "A", 0.6), part("float32", "B", 0.7)]
    parts = together(old, [part("float32", "A", 2.0)])
    found = {(each["provenance"]["device"], each["type"]): each["rows"][0]["ratio"] for each in parts}
    assert found == {("A", "float32"): 2.0, ("A", "bfloat16"): 0.6, ("B", "float32"): 0.7}
    text = page(parts)
    assert text.index("## A") < text.index("## B")
    assert "| decode | float32 | T | 1.0 | 2.0 | 2.00 | >= 1.1 | met | 0e+00 |" in text
    assert "MISSED by 0.50" in text


def test_the_width_is_mamba_2_8bs() -> None:
    config = config_of(tiny=False)
    assert (config.d_model, config.n_layers, config.padded_vocab) == (2560, 8, 50280)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--types", "float3"], "there is no 'float3'; the types are float32, bfloat16"),
        (["--rounds", "0"], "--rounds 0 must be at least 1"),
        (["--prepare"], "--prepare needs --work"),
    ],
)
def test_mistakes(
    argv: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["peer_llama_cpp.py", "--llama-python", "python", *argv])
    with pytest.raises(SystemExit):
        script.arguments()
    assert sentence in " ".join(capsys.readouterr().err.split())
