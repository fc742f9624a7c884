"""How many questions and pictures there should be: what is refused, what is a part, and POPE's two sizes."""

import json

import pytest
from benchmark_files import NAMES, opened, refusal, written


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_count_names_both_numbers(name, tmp_path):
    benchmark = written(name, tmp_path)
    said = refusal(name, tmp_path, allow_partial=False)
    questions, pictures = benchmark.counts[benchmark.split]
    found = {"pope": (18, 3), "vizwiz": (6, 6)}.get(name, (6, 3))
    assert f"has {questions:,} questions about {pictures:,} pictures" in said
    assert f"has {found[0]} about {found[1]}:" in said
    assert "allow_partial" in said


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_or_a_word_makes_a_part_acceptable(name, tmp_path):
    written(name, tmp_path)
    strict = opened(name, tmp_path, allow_partial=False)
    assert len(list(strict.samples(strict.split, limit=4))) == 4
    assert strict.is_partial(strict.split, 4)
    whole = len(list(opened(name, tmp_path).samples(strict.split)))
    assert strict.is_partial(strict.split, whole)  # all of these files, but not all of the benchmark


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_is_no_part(name, tmp_path, monkeypatch):
    benchmark = written(name, tmp_path)
    n = len(list(benchmark.samples(benchmark.split)))
    pictures = {"vizwiz": 6}.get(name, 3)
    monkeypatch.setattr(type(benchmark), "counts", {benchmark.split: (n, pictures)})
    strict = opened(name, tmp_path, allow_partial=False)
    assert len(list(strict.samples(strict.split))) == n
    assert not strict.is_partial(strict.split, n)
    assert strict.is_partial(strict.split, n - 1)
    assert strict.total(strict.split) == n
    monkeypatch.setattr(type(benchmark), "counts", {benchmark.split: (n, pictures + 1)})
    assert f"about {pictures}:" in refusal(name, tmp_path, allow_partial=False)


def pope_lines(n: int) -> str:
    rows = (
        {"question_id": i, "image": f"COCO_val2014_{i % 500:012d}.jpg", "text": f"Is there a thing {i}?", "label": "no"}
        for i in range(n)
    )
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(("n", "variant"), [(3000, None), (2910, "the older random file of 2,910 questions")])
def test_pope_accepts_both_random_files_and_says_which(n, variant, tmp_path):
    written("pope", tmp_path)
    for split, questions in (("random", n), ("popular", 3000), ("adversarial", 3000)):
        (tmp_path / f"coco_pope_{split}.json").write_text(pope_lines(questions))
    strict = opened("pope", tmp_path, allow_partial=False)
    assert len(list(strict.samples("test"))) == n + 6000
    assert len(list(strict.samples("random"))) == n
    assert strict.variant("test") == strict.variant("random") == variant
    assert strict.variant("popular") is None
    assert strict.note("test") == (variant or "")
    assert not strict.is_partial("test", n + 6000)
    assert strict.is_partial("test", n + 5999)
    assert strict.total("test") == n + 6000


def test_pope_refuses_any_other_size(tmp_path):
    written("pope", tmp_path)
    (tmp_path / "coco_pope_random.json").write_text(pope_lines(2909))
    assert "has 3,000 questions about 500 pictures" in refusal("pope", tmp_path, "random", allow_partial=False)
