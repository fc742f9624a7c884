"""A user's own score that gives, or reads, what it may not: one sentence that names the score and the layer."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import deltaprune as dp
from deltaprune.analysis.scores import layer_scores
from deltaprune.methods import parse
from deltaprune.mllm.processor import Processor
from deltaprune.prefill import NonFiniteScore
from deltaprune.scores import as_score, registry

PICTURE = Image.radial_gradient("L").convert("RGB")
NEEDS = frozenset({"step"})


@dataclass(frozen=True)
class Own(dp.Score):
    """What a function makes of tokens and trace."""

    does: Callable[[Any, Any], Any]
    needs: Any = NEEDS  # pyright: ignore[reportIncompatibleMethodOverride]
    sees_text: bool = False  # pyright: ignore[reportIncompatibleMethodOverride]

    def __repr__(self) -> str:
        return "Own()"

    def __call__(self, tokens: dp.Rows, trace: dp.Trace) -> Tensor:
        return self.does(tokens, trace)


@dataclass(frozen=True)
class OwnMethod(dp.Method):
    """One that checks nothing."""

    score: Any

    def steps(self, shape: dp.Shape) -> tuple[dp.Stage, ...]:
        return (dp.Stage(1, 0.5, self.score),)


ROWS = r"after layer 1: one number per row is \(\d+,\) float32 on cpu"
GIVES = [
    (lambda tokens, trace: trace["step"][:-1], r"The score Own\(\) gave \(\d+,\) float32 on cpu " + ROWS),
    (lambda tokens, trace: trace["step"][:, None], r"gave \(\d+, 1\) float32 on cpu " + ROWS),
    (lambda tokens, trace: trace["step"].mean(), r"gave \(\) float32 on cpu " + ROWS),
    (lambda tokens, trace: trace["step"].double(), r"gave \(\d+,\) float64 on cpu " + ROWS),
    (lambda tokens, trace: trace["step"].bfloat16(), r"gave \(\d+,\) bfloat16 on cpu " + ROWS),
    (lambda tokens, trace: trace["step"].long(), r"gave \(\d+,\) int64 on cpu " + ROWS),
    (lambda tokens, trace: trace["step"] > 0, r"gave \(\d+,\) bool on cpu " + ROWS),
    (lambda tokens, trace: trace["step"].to("meta"), r"gave \(\d+,\) float32 on meta " + ROWS),
    (lambda tokens, trace: trace["step"].tolist(), "gave an object of type list " + ROWS),
    (lambda tokens, trace: None, "gave an object of type NoneType " + ROWS),
]
UNDECLARED = r"The score Own\(\), asked after layer 1, reads trace\['output'\] but does not declare it: add 'output'"
READS = [
    lambda tokens, trace: trace["output"].norm(dim=-1),
    lambda tokens, trace: torch.linalg.vector_norm(trace["output"], dim=-1),
    lambda tokens, trace: trace["step"] + trace["output"],
    lambda tokens, trace: trace["output"],
    lambda tokens, trace: len(trace["output"]),
]


def refused(tiny: tuple[dp.VLM, Processor], score: Any, kind: type[Exception] = dp.UserError) -> str:
    vlm, processor = tiny
    inputs = processor(images=PICTURE, text="What?")
    with pytest.raises(kind) as error:
        vlm.generate(**inputs, method=OwnMethod(score))
    with pytest.raises(kind) as measured:
        layer_scores(vlm, inputs, score)
    said = str(error.value)
    assert said == str(measured.value)
    assert "\n" not in said
    return said


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("does", "sentence"), GIVES)
def test_what_it_gives(tiny: tuple[dp.VLM, Processor], does: Callable, sentence: str) -> None:
    assert re.search(sentence, refused(tiny, Own(does)))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("does", READS)
def test_what_it_reads(tiny: tuple[dp.VLM, Processor], does: Callable) -> None:
    assert re.search(UNDECLARED, refused(tiny, Own(does)))


def test_numbers_that_are_not_finite(tiny: tuple[dp.VLM, Processor]) -> None:
    for value in (torch.nan, torch.inf):
        said = refused(tiny, Own(lambda tokens, trace, v=value: trace["step"] * v), NonFiniteScore)
        assert said.startswith("The token scores of Own(), read after layer 1, are not finite (NaN or infinite)")


def test_its_own_errors_stay_its_own(tiny: tuple[dp.VLM, Processor]) -> None:
    def fails(tokens: Any, trace: Any) -> Tensor:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        tiny[0].generate(**tiny[1](images=PICTURE, text="What?"), method=OwnMethod(Own(fails)))


def test_it_may_look_whether_a_role_is_there_and_copy_the_trace(tiny: tuple[dp.VLM, Processor]) -> None:
    vlm, processor = tiny
    inputs = processor(images=PICTURE, text="What?")

    def careful(tokens: Any, trace: Any) -> Tensor:
        assert "output" not in trace
        assert isinstance(trace, dp.Trace)
        return trace.map(lambda told: 2 * told)["step"]

    kept = vlm.start(inputs, method=OwnMethod(Own(careful))).kept[0].origin[0]
    assert torch.equal(kept, vlm.start(inputs, method=OwnMethod(dp.Delta())).kept[0].origin[0])


@pytest.mark.parametrize(
    ("needs", "sentence"),
    [
        ({"stpe"}, r"The score Own\(\) needs 'stpe', which no trace has: did you mean 'step'\?"),
        (["step"], r"The score Own\(\) has needs=\['step'\]: they are a set of roles"),
        ("step", "has needs='step': they are a set of roles"),
    ],
)
def test_what_it_declares(needs: Any, sentence: str) -> None:
    with pytest.raises(dp.UserError, match=sentence):
        dp.Stage(1, 0.5, Own(lambda tokens, trace: trace["step"], needs))


BUILDERS = [
    lambda score: dp.DTP(score=score),
    lambda score: dp.FastV(score=score),
    lambda score: dp.Pyramid(score=score),
    lambda score: parse(f"dtp:score={score}"),
]


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("name", registry.names())
def test_a_name_is_as_good_as_the_score(build: Callable, name: str) -> None:
    method = build(name)
    assert method.score == registry[name]()
    assert method == build(name)
    assert f"score={registry[name]()!r}" in repr(method)


@pytest.mark.parametrize("build", BUILDERS)
def test_a_name_that_is_none_is_refused_when_built(build: Callable) -> None:
    with pytest.raises(
        dp.UserError, match="There is no score 'zzz': the known ones are chosen, clipped_output, coverage, delta, "
    ):
        build("zzz")
    with pytest.raises(dp.UserError, match="There is no score 'dleta': did you mean 'delta'"):
        build("dleta")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("build", BUILDERS[:3])
@pytest.mark.parametrize(
    ("score", "sentence"),
    [
        (dp.Delta, r"score=Delta is the class of a score: give an object, Delta\(\)\."),
        (
            0.5,
            r"score=0.5 is not a score: give an object such as Delta\(\), or one of the names chosen, clipped_output, ",
        ),
        (None, "score=None is not a score"),
    ],
)
def test_what_is_no_score_is_refused_when_built(build: Callable, score: Any, sentence: str) -> None:
    with pytest.raises(dp.UserError, match=sentence):
        build(score)


@pytest.mark.usefixtures("unchecked")
def test_a_stage_takes_objects() -> None:
    with pytest.raises(dp.UserError, match="score='delta' is not a score: Stage takes an object such as Delta"):
        dp.Stage(1, 0.5, "delta")  # pyright: ignore[reportArgumentType]


def test_a_score_with_fields_to_fill_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._entries, "own", Own)
    with pytest.raises(dp.UserError, match=r"The score 'own' has fields without a default .*'does'.*: give an object"):
        as_score("own")
    with pytest.raises(dp.UserError, match="give an object"):
        parse("dtp:score=own")
