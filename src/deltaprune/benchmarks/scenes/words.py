"""How questions are worded: short, plain, a small vocabulary."""

from deltaprune.benchmarks.scenes.world import Random, pick

FORMS = {
    "existence": ("Is there {a} in the picture?", "Do you see {a}?", "Can you find {a}?"),
    "color": ("What color is the {shape}?", "Which color does the {shape} have?"),
    "shape": ("What shape is the {color} object?", "Which shape does the {color} object have?"),
    "size": ("What size is the {name}?", "Is the {name} small or large?"),
    "place": ("Where is the {name}?", "In which corner is the {name}?"),
    "beside": ("The {name} is on the {side} side.", "The {name} is in the {side} half."),
    "beyond": ("The {name} is at the {side}.", "The {name} is in the {side} half."),
    "relative": ("The {first} is {relation} the {second}.",),
    "count": ("How many {plural} are there?", "How many {plural} do you see?", "Count the {plural}."),
    "text": ("What is written on the sign?", "What does the sign say?"),
    "letter": ("What letter is on the sign?", "Which letter does the sign show?"),
    "digit": ("What digit is on the sign?", "Which digit does the sign show?"),
}


def fill(rng: Random, form: str, answer: str, **words: str) -> tuple[str, str, str]:
    """Form, question and answer, one of the form's wordings filled in."""
    return form, pick(rng, FORMS[form]).format(**words), answer


def statement(rng: Random, form: str, truth: bool, **words: str) -> tuple[str, str, str]:
    """A statement to be judged, right or wrong as `truth` says."""
    form, text, answer = fill(rng, form, str(truth), **words)
    return form, f"{text} True or False?", answer


def plural_of(shape: str) -> str:
    """Circles, crosses."""
    return "crosses" if shape == "cross" else f"{shape}s"


def with_article(name: tuple[str, str]) -> str:
    """A red circle, an orange star."""
    return f"{'an' if name[0][0] in 'aeiou' else 'a'} {name[0]} {name[1]}"
