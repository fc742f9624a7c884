"""A visitor's work without a browser: what it computes is what `ask` and the library's own functions give."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deltaprune.analysis import layer_scores
from deltaprune.ask import ask
from deltaprune.errors import UserError
from deltaprune.methods import parse
from deltaprune.mllm.processor import Processor
from deltaprune.scores.readout import ReadoutNorm
from deltaprune.studio import result as measuring
from deltaprune.studio.layers import DROPPED, KEPT
from deltaprune.studio.own import OwnDoor
from deltaprune.studio.result import Result
from deltaprune.studio.session import Session
from deltaprune.studio.sight import EXAMPLES
from deltaprune.vlm import VLM

NEW = 2  # tokens of an answer
PICTURE = Path(__file__).parents[2] / "examples" / "triangles.png"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short answers, each measured once."""
    monkeypatch.setattr(measuring, "NEW_TOKENS", NEW)
    monkeypatch.setattr("deltaprune.studio.sight.RUNS", 1)


@pytest.fixture
def session(tiny: tuple[VLM, Processor]) -> Session:
    return Session(*tiny)


def result(session: Session, name: str) -> Result:
    found = session.rows()[name]
    assert isinstance(found, Result), found
    return found


def test_it_opens_with_an_example(session: Session) -> None:
    assert session.notice == ""
    assert session.question == EXAMPLES[0].question
    assert list(session.rows()) == ["Unpruned", "A", "B"]
    assert [asked.question for asked in session.asked] == [EXAMPLES[0].question]


@pytest.mark.parametrize("method", ["dtp", "freeze", "dart", "pyramid", "downscale", "none", "vtw"])
def test_a_row_is_what_ask_gives(session: Session, tiny: tuple[VLM, Processor], method: str) -> None:
    session.choose("A", method)
    session.change("A", keep=0.25)
    ours = result(session, "A")
    theirs = ask(*tiny, session.sight.image, [session.question], ours.method, NEW)[-1]
    assert ours.answer == theirs.answer
    assert ours.grid is not None
    assert ours.tokens == (ours.grid[0] * ours.grid[1], *(theirs.kept or ()))
    assert list(ours.after) == theirs.after
    assert ours.macs_share == theirs.macs_share
    assert set(ours.ms) == set(theirs.ms)
    for after, origin in zip(theirs.after, theirs.kept_origin, strict=True):
        assert np.flatnonzero(ours.states[after] != DROPPED).tolist() == origin.tolist()


def test_what_was_measured_is_not_measured_again(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    measured = OwnDoor.measured

    def counted(*args, **kwargs) -> Result:
        runs.append(args[3])
        return measured(*args, **kwargs)

    monkeypatch.setattr(OwnDoor, "measured", counted)
    session.rows()
    session.change("A", keep=0.25)
    session.rows()
    session.change("A", keep=0.5)
    session.rows()
    assert runs == ["dtp:keep=0.25"]


def test_a_budget_that_the_model_can_meet_is_the_first(session: Session) -> None:
    """Random weights of four layers have no order to freeze them in, so 0.6 is out of reach."""
    assert session.settings["B"].budget > 0.6
    assert result(session, "B").macs_share <= session.settings["B"].budget
    below = f"freeze:budget={session.settings['B'].budget - 0.05:.2f}"
    with pytest.raises(UserError, match="cannot be met"):
        parse(below).checked_steps(session.door.shape)


def test_patches_are_dropped_by_hand_and_brought_back(session: Session, tiny: tuple[VLM, Processor]) -> None:
    session.toggle(0.3, 0.9)  # 4 x 4 patches: the last row's second
    session.toggle(0.0, 0.0)
    assert session.shown == "By hand"
    assert session.text_of("By hand") == "chosen:drop=0+13"
    assert np.flatnonzero(session.states[0] == DROPPED).tolist() == [0, 13]
    theirs = ask(*tiny, session.sight.image, [session.question], "chosen:drop=0+13", NEW)[-1]
    assert (result(session, "By hand").answer, result(session, "By hand").tokens) == (theirs.answer, (16, 14))
    session.toggle(0.05, 0.2)
    session.toggle(0.49, 0.8)
    assert list(session.rows()) == ["Unpruned", "A", "B"]
    assert (session.states[0] == KEPT).all()


def test_by_hand_goes_on_from_the_shown_setting(session: Session) -> None:
    session.change("A", keep=0.25)
    gone = result(session, "A").states[1] == DROPPED  # the late stage drops all, which is no choice
    session.start_by_hand()
    assert session.dropped == frozenset(np.flatnonzero(gone).tolist())
    assert len(session.dropped) == 12
    session.bring_back()
    assert not session.dropped


def test_a_smaller_picture_has_other_patches(session: Session) -> None:
    session.choose("B", "downscale")
    session.change("B", keep=0.25)
    assert session.states[1] == (2, 2)
    session.start_by_hand()
    assert "other patches" in session.notice
    assert not session.dropped
    session.toggle(0.9, 0.9)
    assert (session.notice, session.dropped) == ("", frozenset({15}))


def test_the_second_question_starts_from_the_prefix(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    encode = VLM.encode_image

    def counted(self: VLM, *args, **kwargs):
        encoded.append("image")
        return encode(self, *args, **kwargs)

    monkeypatch.setattr(VLM, "encode_image", counted)
    for question in ("Is there a cross?", "How many things are there?"):
        session.ask(question)
        assert session.asked[-1].answer == result(session, "A").answer
    assert encoded == []  # run for the first question, when the page opened
    assert [asked.first for asked in session.asked] == [True, False, False]
    session.change("A", keep=0.75)
    session.ask("Is there a star?")
    assert (encoded, session.asked[-1].first) == (["image"], True)
    session.open(str(PICTURE))
    assert [asked.first for asked in session.asked] == [True]
    assert session.asked[0].saved_ms == session.asked[0].whole_ms - session.asked[0].took_ms


def test_a_mistake_is_a_sentence_and_changes_nothing(session: Session, tmp_path: Path) -> None:
    before = (session.sight, session.question, list(session.asked), session.score)
    (tmp_path / "broken.png").write_bytes(PICTURE.read_bytes()[:700])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no picture")
    for step, said in (
        (lambda: session.ask("  "), "The question is empty"),
        (lambda: session.ask("\ud800"), "UTF-8"),
        (lambda: session.open(str(tmp_path / "broken.png")), "'broken.png' is damaged or cut short"),
        (lambda: session.open(str(tmp_path / "empty.png")), "'empty.png' is not an image"),
        (lambda: session.open(str(tmp_path / "text.png")), "'text.png' is not an image"),
        (lambda: session.open_example(7), "no example 7"),
        (lambda: session.look(score="nope"), "no score 'nope'"),
    ):
        step()
        assert said in session.notice
        assert "\n" not in session.notice
        assert str(tmp_path) not in session.notice
        assert (session.sight, session.question, session.asked, session.score) == before
    session.open(None)
    assert session.notice == ""


def test_a_setting_that_does_not_fit_is_told_in_its_row(session: Session) -> None:
    session.change("B", budget=0.05)
    row = session.rows()["B"]
    assert isinstance(row, str)
    assert "budget=0.05 cannot be met" in row
    assert session.result is None
    assert (session.states[0] == KEPT).all()
    session.change("A", more="nope=3")
    assert "no field 'nope'" in str(session.rows()["A"])
    session.ask("Is there a star?")  # asked of the unpruned model then
    assert (session.notice, session.asked[-1].method) == ("", "none")


def test_the_heat_is_the_scores_of_every_layer(session: Session, tiny: tuple[VLM, Processor]) -> None:
    session.look(score="readout")
    inputs = tiny[1](images=session.sight.image, text=session.question)
    theirs = layer_scores(tiny[0], inputs, ReadoutNorm()).scores[:, 0]
    torch.testing.assert_close(torch.tensor(session.heat), torch.tensor(theirs))


def test_the_layer_stays_in_the_model(session: Session) -> None:
    for given, shown in ((-3, 0), (99, 4), (2, 2)):
        session.look(layer=given)
        assert session.layer == shown
        assert len(session.states[0]) == 16


def test_two_visitors_do_not_see_each_other(tiny: tuple[VLM, Processor]) -> None:
    first, second = Session(*tiny), Session(*tiny)
    first.toggle(0.5, 0.5)
    first.change("A", keep=0.1)
    assert not second.dropped
    assert second.settings["A"].keep == 0.5
    assert parse(second.text_of("A")) == parse("dtp")
