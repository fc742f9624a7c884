"""Every drill's answer, recomputed from the things by the drill's own words."""

import numpy as np

from deltaprune.benchmarks.scenes import Scene
from deltaprune.benchmarks.scenes.world import COLORS, SHAPES, Thing
from training.drills import FORMS, Drill, corpus, drills
from training.lessons import Forest
from training.vocabulary import train_tokenizer

CLOSER = {
    "left": lambda a, b: a.x < b.x,
    "right": lambda a, b: a.x > b.x,
    "above": lambda a, b: a.y < b.y,
    "below": lambda a, b: a.y > b.y,
}


def expected(drill: Drill, things: tuple[Thing, ...]) -> str:
    """The answer, found by reading the drill's text."""
    form, *words = drill.text.split()
    if form in CLOSER:
        first, second = (find(things, *words[i : i + 2]) for i in (0, 2))
        return str(CLOSER[form](first[0], second[0]))
    found = find(things, *words)
    if form == "count":
        return str(len(found))
    if not found:
        return "unanswerable"
    if form in ("color", "shape", "size"):
        (answer,) = {getattr(thing, form) for thing in found}
        return answer
    (thing,) = found
    if form == "corner":
        return f"{'top' if thing.y < 80 else 'bottom'} {'left' if thing.x < 80 else 'right'}"
    return str(int((thing.x if form == "column" else thing.y) / 16))


def find(things: tuple[Thing, ...], *words: str) -> list[Thing]:
    assert set(words) <= {*COLORS, *SHAPES}
    return [thing for thing in things if set(words) <= {thing.color, thing.shape}]


def test_answers_are_right_and_every_form_is_asked() -> None:
    rng, forms = np.random.default_rng(0), set()
    for seed in range(200):
        things = Scene.from_seed(seed).things
        asked = drills(things, rng, 100)
        assert len({drill.text for drill in asked}) == len(asked)
        for drill in asked:
            assert drill.answer == expected(drill, things), drill
        forms |= {drill.form for drill in asked}
    assert forms == set(FORMS)


def test_relations_are_right_half_of_the_time() -> None:
    rng = np.random.default_rng(0)
    asked = [d for seed in range(300) for d in drills(Scene.from_seed(seed).things, rng, 100) if d.form in CLOSER]
    assert 0.45 < np.mean([drill.answer == "True" for drill in asked]) < 0.55


def test_at_most_n_and_the_last_token_is_only_foretold() -> None:
    tokenizer = train_tokenizer(corpus(50))
    asked = drills(Scene.from_seed(3).things, np.random.default_rng(0), 5)
    forest = Forest(tokenizer, str)
    forest.plant(4, [], asked)
    assert len(asked) == 5
    for drill, (image, rows), parent in zip(asked, forest.segments[1:], forest.parent[1:], strict=True):
        prompt, answer = forest.encode(drill.text), forest.encode(drill.answer)
        assert (image, parent, rows) == (0, 0, len(prompt) + len(answer) - 1)
        assert [t for t in forest.targets[:rows] if t >= 0] == answer
        forest.targets, forest.ids = forest.targets[rows:], forest.ids[rows:]
    assert forest.segments[0] == (4, 0)
