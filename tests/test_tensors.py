"""Misfits of named tensors, in one sentence."""

import pytest

from deltaprune.errors import UserError
from deltaprune.tensors import check_tensors, fold


def test_numbered_names_are_folded() -> None:
    names = [f"a.{i}.w" for i in (0, 1, 2, 5, 7, 8)] + ["b", "a.3.v", "c.10.d.0.w"]
    assert fold(names) == ["a.{0-2,5,7-8}.w", "b", "a.3.v", "c.10.d.0.w"]
    assert fold([]) == []


def test_equal_tensors_pass() -> None:
    check_tensors("x", {"a": (1, 2), "b": ()}, {"b": (), "a": (1, 2)})


def test_all_misfits_stand_in_one_sentence() -> None:
    wanted = {"l.0.weight": (2, 3), "l.1.weight": (2, 3), "head": (4,), "tail": (5,)}
    found = {"l.0.weight": (3, 2), "l.1.weight": (3, 2), "haed": (4,), "other": (1,)}
    with pytest.raises(UserError) as error:
        check_tensors("file", wanted, found)
    assert str(error.value) == (
        "file does not fit its config: missing head, tail; unexpected haed (did you mean head?), other; "
        "misshapen l.{0-1}.weight (3, 2) instead of (2, 3)."
    )
