"""A plan as a file: it comes back as it was, says where it comes from, and is refused where it does not fit."""

import datetime
import json

import pytest

from deltaprune import DTP, VTW, Plan, UserError, __version__, load_plan
from deltaprune.calibrate import Spread, Withdrawal, plan, save_plan
from deltaprune.cost import tokens_kept
from deltaprune.models.cobra import COBRA
from deltaprune.models.robomamba import ROBOMAMBA
from deltaprune.steps import Shape, Stage

STD = tuple(1.0 + (l == 9) + 5 * (l > 50) for l in range(64))
KL = tuple(0.5 if l < 40 else 0.002 for l in range(64))


def found(eta: float = 0.003) -> Plan:
    curves = Spread(STD, samples=20), Withdrawal(KL, samples=20)
    return plan(curves[0], "first_peak", "scenes", "val", 7, curves[1], eta)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "plan.json"
    save_plan(found(), COBRA, path)
    return path


def test_both_methods_layers():
    assert (found().early, found().late, found().withdrawal) == (10, 51, 40)
    assert found().source["kl"][38:41] == [0.5, 0.5, 0.002]
    assert found().source["eta"] == 0.003
    assert "k=40" in found().source["withdrawal"]
    assert plan(Spread(STD, samples=1)).withdrawal is None


def test_it_comes_back_as_it_was(file):
    assert load_plan(file, COBRA) == found()


def test_it_says_where_it_comes_from(file):
    raw = json.loads(file.read_text())
    assert raw["format"] == 1
    assert raw["deltaprune"] == __version__
    assert raw["date"] == datetime.date.today().isoformat()
    assert raw["model"] == {"name": "cobra", "n_layers": 64, "n_visual": 729}
    expected = {"benchmark": "scenes", "split": "val", "seed": 7, "samples": 20, "rule": "first_peak"}
    assert expected.items() <= raw["source"].items()


def test_methods_take_it(tiny, file, tmp_path):
    vlm, _ = tiny
    held = vlm.config.plan
    try:
        path = tmp_path / "tiny.json"
        save_plan(Plan(early=2, late=3, withdrawal=1), vlm.config, path)
        assert vlm.use_plan(load_plan(path, vlm.config)) is vlm
        with DTP(keep=0.5)(vlm):
            assert [stage.after for stage in vlm.steps] == [2, 3]
        with VTW()(vlm):
            assert vlm.steps == (Stage(1, 0.0),)
    finally:
        vlm.use_plan(held)
    chosen = load_plan(file, COBRA)
    assert tokens_kept(DTP(0.5, chosen.early, chosen.late).steps(COBRA.shape), COBRA.shape) == [364, 0]


def test_vtw_takes_its_own_layer_where_the_plan_has_it():
    def shape(withdrawal):
        return Shape(64, 729, Plan(15, 45, withdrawal=withdrawal))

    assert VTW().steps(shape(None)) == (Stage(45, 0.0),)
    assert VTW().steps(shape(0)) == (Stage(0, 0.0),)
    assert VTW().steps(shape(64)) == ()  # no withdrawal
    assert VTW(after=30).steps(shape(64)) == (Stage(30, 0.0),)


def test_nothing_passed(tmp_path):
    path = tmp_path / "plan.json"
    save_plan(found(eta=1e-5), COBRA, path)
    loaded = load_plan(path, COBRA)
    assert loaded.withdrawal == 64
    assert "no withdrawal" in loaded.source["withdrawal"]


@pytest.mark.parametrize("field", ["format", "model", "early", "late", "withdrawal", "source"])
def test_a_missing_field(file, field):
    raw = json.loads(file.read_text())
    del raw[field]
    file.write_text(json.dumps(raw))
    with pytest.raises(UserError, match=f"is not a whole plan: it lacks '{field}', so make one with deltaprune calib"):
        load_plan(file, COBRA)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "is a plan of format 2, and this version reads 1: make one"),
        ({"early": "15"}, "early='15': it is a whole number from 0 to 63"),
        ({"early": True}, "early=True: it is a whole number"),
        ({"early": None}, "early=None: it is a whole number"),
        ({"late": 64}, "late=64: it is a whole number from 0 to 63"),
        ({"late": -1}, "late=-1: it is a whole number"),
        ({"early": 45, "late": 45}, "early=45 not before late=45"),
        ({"withdrawal": 65}, "withdrawal=65: it is a whole number from 0 to 64"),
        ({"withdrawal": 4.5}, "withdrawal=4.5"),
        ({"source": "scenes"}, "its 'source' is no object"),
        ({"model": "cobra"}, r"made for another model \(cobra\), not for cobra \(n_layers 64, n_visual 729\)"),
    ],
    ids=str,
)
def test_a_field_that_cannot_be(file, change, message):
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(UserError, match=message):
        load_plan(file, COBRA)


def test_another_models_plan(file):
    with pytest.raises(
        UserError,
        match=r"made for another model \(name cobra, n_layers 64, n_visual 729\), not for robomamba \(n_layers 64, "
        r"n_visual 256\): make one with deltaprune calibrate --out for this one\.",
    ):
        load_plan(file, ROBOMAMBA)


def test_no_such_file(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        load_plan(tmp_path / "nowhere.json", COBRA)
    with pytest.raises(UserError, match="cannot be read"):
        load_plan(tmp_path, COBRA)


@pytest.mark.parametrize(("text", "why"), [("{", "it is not JSON"), ("[1]", "no JSON object"), ("\xff", "not JSON")])
def test_no_plan_at_all(tmp_path, text, why):
    path = tmp_path / "plan.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=f"is not a plan, because .*{why}"):
        load_plan(path, COBRA)
