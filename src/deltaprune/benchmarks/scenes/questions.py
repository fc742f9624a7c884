"""Six kinds of questions about a layout. Each picks the wanted answer first, then a question that has it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from deltaprune.benchmarks.scenes.words import fill, plural_of, statement, with_article
from deltaprune.benchmarks.scenes.world import COLORS, SHAPES, SIDE, Random, Sign, Thing, pick, weighted

MARGIN = 20  # pixels between two centres before one is "left of" the other
MIDDLE = 12  # pixels from a middle line before a thing is clearly on one side
UNANSWERABLE = "unanswerable"


@dataclass(frozen=True)
class Question:
    """A question, its one right answer, and the skill and form it belongs to."""

    skill: str
    text: str
    answer: str
    form: str


@dataclass(frozen=True)
class Facts:
    """What may be asked about: the things, those that a colour and shape name uniquely, the sign."""

    things: tuple[Thing, ...]
    sign: Sign | None

    def unique(self, key: Callable[[Thing], object]) -> list[Thing]:
        """The things that share their key with no other."""
        seen = Counter(key(thing) for thing in self.things)
        return [thing for thing in self.things if seen[key(thing)] == 1]

    @property
    def named(self) -> list[Thing]:
        return self.unique(lambda thing: thing.name)


def ask(skill: str, facts: Facts, rng: Random) -> Question | None:
    """One question of a skill, or None where the scene has nothing to ask about."""
    made = _ASK[skill](facts, rng)
    if made is None:
        return None
    form, text, answer = made
    return Question(skill, text, answer, form)


Made = tuple[str, str, str] | None  # form, text, answer


def _existence(facts: Facts, rng: Random) -> Made:
    if rng.random() < 0.5:
        return fill(rng, "existence", "Yes", a=with_article(pick(rng, facts.things).name))
    return fill(rng, "existence", "No", a=with_article(_absent_name(facts, rng)))


def _attribute(facts: Facts, rng: Random) -> Made:
    for form in _attribute_forms(rng):
        if made := _answerable(form, facts, rng):
            return made
    return None


def _spatial(facts: Facts, rng: Random) -> Made:
    kinds = (_absolute, _relative) if rng.random() < 0.4 else (_relative, _absolute)
    return kinds[0](facts, rng) or kinds[1](facts, rng)


def _counting(facts: Facts, rng: Random) -> Made:
    by_answer: dict[int, dict[str, list[str]]] = {}
    for kind, plural, count in _countable(facts):
        by_answer.setdefault(count, {}).setdefault(kind, []).append(plural)
    wanted = weighted(rng, {count: _COUNT_WEIGHTS[count] for count in sorted(by_answer)})
    kind = pick(rng, list(by_answer[wanted]))
    form, text, answer = fill(rng, "count", str(wanted), plural=pick(rng, by_answer[wanted][kind]))
    return f"{form} {kind}", text, answer


def _reading(facts: Facts, rng: Random) -> Made:
    if facts.sign is None:
        return None
    form = pick(rng, ("text", "text", "letter", "digit"))
    answer = {"text": facts.sign.text, "letter": facts.sign.text[0], "digit": facts.sign.text[1]}[form]
    return fill(rng, form, answer)


def _unanswerable(facts: Facts, rng: Random) -> Made:
    """Half have no answer; a third of the rest read a sign, which evens out the scenes without one (1 in 4)."""
    if rng.random() < 0.5:
        if facts.sign is None:
            return fill(rng, pick(rng, ("text", "text", "letter", "digit")), UNANSWERABLE)
        return next((made for form in _attribute_forms(rng) if (made := _void(form, facts, rng))), None)
    if facts.sign is not None and rng.random() < 1 / 3:
        return _reading(facts, rng)
    return _attribute(facts, rng)


_ASK: dict[str, Callable[[Facts, Random], Made]] = {
    "existence": _existence,
    "attribute": _attribute,
    "spatial": _spatial,
    "counting": _counting,
    "reading": _reading,
    "unanswerable": _unanswerable,
}
SKILLS = tuple(_ASK)
_COUNT_WEIGHTS = {0: 0.7, 1: 0.7, 2: 1.0, 3: 1.4, 4: 2.0, 5: 2.0}


def _attribute_forms(rng: Random) -> list[str]:
    """The four attribute forms, the one to try first at the head."""
    first = weighted(rng, {"color": 0.4, "shape": 0.3, "place": 0.2, "size": 0.1})
    return [first, *(form for form in ("color", "shape", "place", "size") if form != first)]


def _answerable(form: str, facts: Facts, rng: Random) -> Made:
    if form == "color":
        things = facts.unique(lambda thing: thing.shape)
    elif form == "shape":
        things = facts.unique(lambda thing: thing.color)
    else:
        things = [thing for thing in facts.named if form == "size" or corner(thing)]
    if not things:
        return None
    thing = pick(rng, things)
    answer = {"color": thing.color, "shape": thing.shape, "size": thing.size, "place": corner(thing)}[form]
    return fill(rng, form, answer, color=thing.color, shape=thing.shape, name=" ".join(thing.name))


def _void(form: str, facts: Facts, rng: Random) -> Made:
    """An attribute question about something that is not in the picture."""
    colors = [color for color in COLORS if all(thing.color != color for thing in facts.things)]
    shapes = [shape for shape in SHAPES if all(thing.shape != shape for thing in facts.things)]
    if form == "color":
        return fill(rng, form, UNANSWERABLE, shape=pick(rng, shapes)) if shapes else None
    if form == "shape":
        return fill(rng, form, UNANSWERABLE, color=pick(rng, colors)) if colors else None
    return fill(rng, form, UNANSWERABLE, name=" ".join(_absent_name(facts, rng)))


def _absent_name(facts: Facts, rng: Random) -> tuple[str, str]:
    """A colour and shape not seen together; half the time, if possible, each is seen apart."""
    present = {thing.name for thing in facts.things}
    if rng.random() < 0.5:
        colors = sorted({color for color, _ in present})
        shapes = sorted({shape for _, shape in present})
        crossed = [(color, shape) for color in colors for shape in shapes if (color, shape) not in present]
        if crossed:
            return pick(rng, crossed)
    return pick(rng, [(color, shape) for color in COLORS for shape in SHAPES if (color, shape) not in present])


def corner(thing: Thing) -> str:
    """One of the four corners, e.g. "top left"; "" when the thing is near a middle line."""
    if min(abs(thing.x - SIDE / 2), abs(thing.y - SIDE / 2)) < MIDDLE:
        return ""
    return f"{'top' if thing.y < SIDE / 2 else 'bottom'} {'left' if thing.x < SIDE / 2 else 'right'}"


def _absolute(facts: Facts, rng: Random) -> Made:
    form, axis, sides = pick(rng, (("beside", "x", ("left", "right")), ("beyond", "y", ("top", "bottom"))))
    things = [thing for thing in facts.named if abs(getattr(thing, axis) - SIDE / 2) >= MIDDLE]
    if not things:
        return None
    thing, truth = pick(rng, things), rng.random() < 0.5
    side = sides[(getattr(thing, axis) > SIDE / 2) == truth]
    return statement(rng, form, truth, name=" ".join(thing.name), side=side)


def _relative(facts: Facts, rng: Random) -> Made:
    axis, relations = pick(rng, (("x", ("left of", "right of")), ("y", ("above", "below"))))
    named = facts.named
    apart = [(a, b) for a in named for b in named if abs(getattr(a, axis) - getattr(b, axis)) >= MARGIN]
    if not apart:
        return None
    (first, second), truth = pick(rng, apart), rng.random() < 0.5
    relation = relations[(getattr(first, axis) > getattr(second, axis)) == truth]
    names = {"first": " ".join(first.name), "second": " ".join(second.name)}
    return statement(rng, "relative", truth, relation=relation, **names)


def _countable(facts: Facts) -> list[tuple[str, str, int]]:
    """Every (kind, plural, count) that can be asked."""
    colors = Counter(thing.color for thing in facts.things)
    shapes = Counter(thing.shape for thing in facts.things)
    names = Counter(thing.name for thing in facts.things)
    rows = [("all", "objects", len(facts.things))]
    rows += [("color", f"{color} objects", colors[color]) for color in COLORS]
    rows += [("shape", plural_of(shape), shapes[shape]) for shape in SHAPES]
    rows += [("name", f"{color} {plural_of(shape)}", names[color, shape]) for color in COLORS for shape in SHAPES]
    return rows
