"""`deltaprune methods`."""

from typing import TYPE_CHECKING, Any

from deltaprune.cli._common import print_json
from deltaprune.cli._options import JsonOption
from deltaprune.cli._progress import Working
from deltaprune.cli._tables import methods_tables, show

if TYPE_CHECKING:
    from deltaprune.registry import Registry


def methods(json: JsonOption = False) -> None:
    """List every method and score with defaults and papers.

    A method is written name:field=value,field=value; a score is the value of a method's field score.
    """
    with Working("starting"):
        from deltaprune.methods import registry as methods
        from deltaprune.scores import registry as scores

        document = {"methods": _entries(methods), "scores": _entries(scores)}
    print_json(document) if json else show(*methods_tables(document))


def _entries(registry: "Registry[Any]") -> list[dict[str, Any]]:
    """Name, class, fields and paper of each entry."""
    from deltaprune.methods import fields_of

    return [
        {
            "name": name,
            "class": registry[name].__name__,
            "about": _about(registry[name]),
            "fields": fields_of(registry[name]),
            "paper": registry[name].paper or None,
        }
        for name in registry.names()
    ]


def _about(cls: type) -> str:
    """The first paragraph of a class's docstring; a dataclass without one gets its signature for a docstring."""
    text = (cls.__doc__ or "").strip()
    return "" if text.startswith(f"{cls.__name__}(") else " ".join(text.split("\n\n")[0].split())
