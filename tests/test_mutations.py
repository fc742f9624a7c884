"""`mutations.py` keeps step with the code: every text that it breaks is there once, and every test that it names."""

from subprocess import CompletedProcess

import pytest
from mutations import MUTATIONS, ROOT, Mutation, verdict


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_its_text_and_its_tests_are_there(mutation: Mutation) -> None:
    text = (ROOT / mutation.file).read_text(encoding="utf-8")
    assert mutation.mutated(text) != text
    assert mutation.tests
    for test in mutation.tests:
        file, _, name = test.partition("::")
        assert (ROOT / file).exists()
        assert not name or f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")


def test_a_text_that_is_gone_is_told() -> None:
    with pytest.raises(ValueError, match=r"gone: 'x' occurs 0 times in f\.py, not once"):
        Mutation("gone", "f.py", "x", "y", ("t",)).mutated("abc")


def test_only_a_failed_test_kills() -> None:
    assert verdict(CompletedProcess([], 1, "FAILED tests/a.py::test_b - assert 0\n")) == (True, "tests/a.py::test_b")
    assert verdict(CompletedProcess([], 1, "FAILED tests/a.py::test_b[a word-1]\n")) == (
        True,
        "tests/a.py::test_b[a word-1]",
    )
    assert verdict(CompletedProcess([], 0, "3 passed")) == (False, "")
    for code, out in ((2, "ERROR tests/a.py"), (1, "ERROR tests/a.py::test_b"), (5, "no tests ran")):
        with pytest.raises(RuntimeError, match=f"pytest ended with {code}"):
            verdict(CompletedProcess([], code, out, ""))
