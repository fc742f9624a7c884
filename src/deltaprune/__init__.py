"""deltaprune: visual-token pruning for MLLMs with a recurrence inside.

The public names are those of `__init__.pyi`; each is imported when it is first asked for, so that importing the package
costs nothing. A score or method whose file is new is public under its class's name as well.
"""

import sys
from typing import Any

import lazy_loader

__version__ = "0.2.0"

_listed, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    try:
        return _listed(name)
    except AttributeError:
        if name.startswith("_"):
            raise
    from deltaprune.registry import find_class

    found = find_class(name, "deltaprune.scores", "deltaprune.methods")
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])
    return found
