"""What every benchmark promises, whoever wrote it: each entry of the registry x each property, under each protocol."""

import runpy
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
from benchmark_files import WRITERS, written

from deltaprune.benchmarks import Benchmark, Graded, Sample, registry

NAMES = registry.names()
N = 12
CASES = [(name, protocol) for name in NAMES for protocol in registry[name].protocols]
FAIR = [case for case in CASES if case != ("vizwiz", "robomamba")]  # which gives 0 to what a sure, unanimous panel says
UNRELATED = "zebra stripes 17"
OPPOSITE = {"yes": "no", "no": "yes", "True": "False", "False": "True"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmarks")


def made(name: str, folder: Path, protocol: str = "official") -> Benchmark:
    """Over the fixture that `WRITERS` or, for a new one, `tests/benchmarks/<name>_files.py` writes; or as it is."""
    own = Path(__file__).parents[1] / "benchmarks" / f"{name}_files.py"
    if name not in WRITERS and own.is_file():
        place = folder / name
        if not place.exists():
            place.mkdir()
            runpy.run_path(str(own))["write"](place)
        return registry[name](data=place, protocol=protocol)
    if name not in WRITERS:
        return registry[name](protocol=protocol)
    place = folder / name / protocol
    return (
        written(name, place, protocol=protocol)
        if not place.exists()
        else registry[name](data=place, allow_partial=True, protocol=protocol)
    )


def drawn(benchmark: Benchmark) -> list[Sample]:
    return list(benchmark.samples(benchmark.split, limit=N))


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is(name, folder):
    benchmark = made(name, folder)
    assert benchmark.name == name
    assert benchmark.version >= 1
    assert "official" in benchmark.protocols
    module = __import__(type(benchmark).__module__, fromlist=["_"])
    assert module.__doc__


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_unique_and_pictures_are_neighbours(name, folder):
    samples = drawn(made(name, folder))
    assert len({sample.id for sample in samples}) == len(samples) > 0
    pictures = [picture for picture, _ in groupby(samples, key=lambda sample: sample.image_id)]
    assert len(pictures) == len(set(pictures))


@pytest.mark.parametrize("name", NAMES)
def test_the_order_is_fixed_and_a_limit_takes_its_head(name, folder):
    benchmark = made(name, folder)
    samples = drawn(benchmark)
    assert drawn(benchmark) == samples
    assert isinstance(benchmark.samples(benchmark.split, limit=3), Iterator)
    assert list(benchmark.samples(benchmark.split, limit=3)) == samples[:3]


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_complete(name, folder):
    for sample in drawn(made(name, folder)):
        assert all(isinstance(text, str) and text for text in (sample.id, sample.image_id, sample.question))
        assert sample.answer
        assert sample.skill
        assert not sample.answers or sample.answer in sample.answers
        assert sample.image.mode == "RGB"
        assert min(sample.image.size) > 0


@pytest.mark.parametrize(("name", "protocol"), CASES)
def test_the_message_asks(name, protocol, folder):
    benchmark = made(name, folder, protocol)
    for sample in drawn(benchmark):
        message = benchmark.rules.message(sample)
        assert isinstance(message, str)
        assert sample.question.strip().lower() in message.lower()


@pytest.mark.parametrize(("name", "protocol"), FAIR)
def test_the_answer_is_right_and_something_else_is_not(name, protocol, folder):
    benchmark = made(name, folder, protocol)
    for sample in drawn(benchmark):
        wrong = UNRELATED if sample.answers else OPPOSITE.get(sample.answer, UNRELATED)  # annotators may say both
        assert benchmark.rules.grade(sample, sample.answer) >= 0.9
        assert benchmark.rules.grade(sample, wrong) == 0


@pytest.mark.parametrize(("name", "protocol"), CASES)
def test_grades_are_shares(name, protocol, folder):
    benchmark = made(name, folder, protocol)
    for sample in drawn(benchmark):
        for prediction in ("", "zebra", "yes", "No", "True", "unanswerable", " ?!", sample.question, sample.answer):
            assert 0 <= benchmark.rules.grade(sample, prediction) <= 1


@pytest.mark.parametrize(("name", "protocol"), FAIR)
def test_the_summary_of_right_answers_is_a_hundred(name, protocol, folder):
    benchmark = made(name, folder, protocol)
    rules = benchmark.rules
    graded = [
        Graded(sample, sample.answer, rules.grade(sample, sample.answer), sure(benchmark, sample))
        for sample in drawn(benchmark)
    ]
    summary = rules.summary(graded)
    assert 90 <= summary.mean <= 100
    assert all(0 <= each <= 100 for each in summary.by_skill.values())


def sure(benchmark: Benchmark, sample: Sample) -> dict[str, float]:
    """All probability on the right choice, where the protocol reads probabilities."""
    choices = getattr(benchmark.rules.decoding, "choices", ())
    return {choice: float(choice.lower() == sample.answer.lower()) for choice in choices}


@pytest.mark.parametrize(("name", "protocol"), CASES)
def test_floors_are_percentages_of_the_skills_that_are_there(name, protocol, folder):
    benchmark = made(name, folder, protocol)
    floors = benchmark.guess(drawn(benchmark)).by_skill
    assert floors.keys() == {sample.skill for sample in drawn(benchmark)}
    assert all(0 <= floor <= 100 for floor in floors.values())


@pytest.mark.parametrize("name", NAMES)
def test_floors_are_the_share_of_the_commonest_answer_where_one_answer_is_right(name, folder):
    benchmark = made(name, folder)
    if any(sample.answers for sample in drawn(benchmark)):
        pytest.skip(f"{name} has several answers to a question")
    answers: dict[str, list[str]] = {}
    for sample in benchmark.samples(benchmark.split, limit=100):
        answers.setdefault(sample.skill, []).append(sample.answer)
    shares = {skill: 100 * max(map(each.count, each)) / len(each) for skill, each in answers.items()}
    assert benchmark.guess(benchmark.samples(benchmark.split, limit=100)).by_skill == pytest.approx(shares)


@pytest.mark.parametrize("name", [name for name in NAMES if name in WRITERS])
def test_fewer_questions_than_the_benchmark_has_are_partial(name, folder):
    benchmark = made(name, folder)
    assert benchmark.is_partial(benchmark.split, 5)
