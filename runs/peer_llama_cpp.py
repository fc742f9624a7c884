"""llama.cpp beside us on the CPU: the same random tensors in both, ratios within one run.

    python3 -m venv PEER
    CMAKE_ARGS=-DGGML_NATIVE=ON PEER/bin/pip install llama-cpp-python==0.3.36 gguf  # compiles for 8 minutes
    python runs/peer_llama_cpp.py --llama-python PEER/bin/python                    # 5 minutes on 2 cores, 6 GB

    ... --types bfloat16 --rounds 3   # a part of it; what was measured of other types is kept
    ... --work FOLDER --prepare       # only write the tensors and llama.cpp's files; later runs with --work find them
    ... --tiny                        # a smoke test in seconds; no figure is written

A few layers of mamba-2.8b's width. Each type of ours meets llama.cpp's of as many bits; one model of each side is in
memory at a time, llama.cpp's in a process of its own, and each waits while the other computes. First the logits of both
are compared, which also warms up: if they lie too far apart, nothing is timed. Writes numbers/peer_llama_cpp.md and
numbers/peer_llama_cpp.json, which keep one section for each processor.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.cost.timing import spread
from llama_cpp_sides import LlamaCpp, Ours, Ran, Side, write_file, write_tensors
from llama_cpp_tables import page, together, verdict
from provenance import NUMBERS, provenance, publish

NAME = "peer_llama_cpp"
SETTLE = 0.05  # seconds until the idle threads of the side that ran last have stopped spinning
FOLLOWING = 8  # decoded tokens


@dataclass(frozen=True)
class Type:
    """A type of ours and llama.cpp's of as many bits.

    Attributes:
        ours, theirs: their names.
        apart: the most that the logits of the two may lie apart, relatively.
        targets: the least of llama.cpp's time over ours, by a case's name.
    """

    ours: str
    theirs: str
    apart: float
    targets: Mapping[str, float]


@dataclass(frozen=True)
class Case:
    """What is timed.

    Attributes:
        part: "prefill", or "decode": one token after a prefill.
        rows: of the prefill.
    """

    part: str
    rows: int

    @property
    def name(self) -> str:
        """As targets have it."""
        return "decode" if self.part == "decode" else f"{self.part} {self.rows}"


WHOLE = {"prefill 23": 1.2, "decode": 1.1}
TYPES = {
    kind.ours: kind
    for kind in (
        Type("float32", "F32", 1e-4, WHOLE),
        Type("bfloat16", "BF16", 0.05, WHOLE),
        Type("int8", "Q8_0", 0.1, {"prefill 752": 2.0, "decode": 1.0}),
        Type(
            "int4",
            "Q4_0",
            0.8,  # two roundings of random weights; unrelated logits lie 1.4 apart
            {"decode": 1.0},
        ),
    )
}
CASES = (Case("prefill", 752), Case("prefill", 388), Case("prefill", 23), Case("decode", 23))


class Disagree(ArithmeticError):
    """The two compute something else, so that their times would not be comparable."""


def measure(kind: Type, ours: Side, theirs: Side, vocabulary: int, rounds: int) -> list[dict[str, Any]]:
    """Both sides in turn: a JSON row for each case.

    Raises:
        Disagree: the logits of the two lie further apart than the type's rounding explains; nothing is timed.
    """
    sides = {"ours": ours, "theirs": theirs}
    prompts = {case.rows: _prompt(case.rows, vocabulary) for case in CASES}
    apart = {
        rows: _agreeing(kind, rows, *(side.run(*prompt) for side in sides.values())) for rows, prompt in prompts.items()
    }
    ran: dict[int, list[dict[str, Ran]]] = {rows: [] for rows in prompts}
    for _ in range(rounds):
        for rows, prompt in prompts.items():
            ran[rows].append({name: _settled(side, prompt) for name, side in sides.items()})
    return [_row(case, ran[case.rows], apart[case.rows], kind.targets.get(case.name)) for case in CASES]


def _prompt(rows: int, vocabulary: int) -> tuple[list[int], list[int]]:
    """Random tokens; some follow the shortest prompt."""
    draw = random.Random(rows)
    following = FOLLOWING if rows == min(case.rows for case in CASES) else 0
    ids = [draw.randrange(vocabulary) for _ in range(rows + following)]
    return ids[:rows], ids[rows:]


def _settled(side: Side, prompt: tuple[list[int], list[int]]) -> Ran:
    """A run after a moment of rest."""
    time.sleep(SETTLE)
    return side.run(*prompt)


def _agreeing(kind: Type, rows: int, ours: Ran, theirs: Ran) -> float:
    """Relative distance of the logits."""
    known = len(ours.logits)
    apart = float(np.linalg.norm(theirs.logits[:known] - ours.logits) / np.linalg.norm(ours.logits))
    if not apart <= kind.apart:
        raise Disagree(
            f"llama.cpp's {kind.theirs} and our {kind.ours} disagree after {rows} rows: their logits lie {apart:.1e} "
            f"apart, relatively, and {kind.apart:.0e} is allowed. No time was taken."
        )
    return apart


def _row(case: Case, ran: Sequence[Mapping[str, Ran]], apart: float, target: float | None) -> dict[str, Any]:
    """Medians over the rounds; the ratio is the median of the rounds' ratios."""
    times = {name: [getattr(each[name], case.part) for each in ran] for name in ("ours", "theirs")}
    ratio = median(theirs / ours for ours, theirs in zip(times["ours"], times["theirs"], strict=True))
    return {
        "part": case.part,
        "rows": case.rows,
        **{f"{name}_ms": median(values) for name, values in times.items()},
        "ratio": ratio,
        "spread": {name: spread(values) for name, values in times.items()},
        "target": target,
        "verdict": verdict(ratio, target),
        "apart": apart,
    }


def config_of(tiny: bool) -> MambaConfig:
    """The LM that is measured."""
    return MambaConfig(d_model=64, n_layers=2, vocab_size=500) if tiny else MambaConfig(n_layers=8)


def arguments() -> argparse.Namespace:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--llama-python", type=Path, required=True, help="of the environment with llama-cpp-python")
    options.add_argument("--types", default=",".join(TYPES), help="which of ours, separated by commas")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--work", type=Path, help="where tensors and files stay; without it they are deleted")
    options.add_argument("--prepare", action="store_true", help="write them, and measure nothing")
    options.add_argument("--tiny", action="store_true", help="a smoke test; no figure is written")
    given = options.parse_args()
    given.types = given.types.split(",")
    if unknown := [name for name in given.types if name not in TYPES]:
        options.error(f"--types: there is no {unknown[0]!r}; the types are {', '.join(TYPES)}")
    if given.rounds < 1:
        options.error(f"--rounds {given.rounds} must be at least 1")
    if given.prepare and given.work is None:
        options.error("--prepare needs --work, the folder in which the files are to stay")
    return given


def main() -> None:
    """Prepare, measure, print and write."""
    given = arguments()
    config, measured = config_of(given.tiny), []
    with ExitStack() as stack:
        work = given.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not (work / "sizes.json").exists():
            write_tensors(config, work)
        files = {name: write_file(given.llama_python, work, TYPES[name].theirs) for name in given.types}
        for name, file in {} if given.prepare else files.items():
            print(f"measuring {name} beside {TYPES[name].theirs}", flush=True)
            with closing(LlamaCpp(given.llama_python, file)) as theirs:
                ours = Ours(config, work, name)
                rows = measure(TYPES[name], ours, theirs, config.vocab_size, given.rounds)
            about = {"llama_cpp": f"llama-cpp-python {theirs.about['version']}", "built": theirs.about["built"]}
            source = {**provenance(), "command": f"python runs/{NAME}.py --llama-python PYTHON"}
            kind = {"type": name, "theirs": TYPES[name].theirs, "layers": config.n_layers, "rounds": given.rounds}
            measured.append({**kind, **about, "provenance": source, "rows": rows})
            if not given.tiny:
                keep(measured)
    if measured:
        print(page(measured))


def keep(measured: Sequence[Mapping[str, Any]]) -> None:
    """Write what was measured beside what is known of other types and processors."""
    file = NUMBERS / f"{NAME}.json"
    parts = together(json.loads(file.read_text())["parts"] if file.exists() else [], measured)
    publish(NAME, {"parts": parts}, page(parts))


if __name__ == "__main__":
    main()
