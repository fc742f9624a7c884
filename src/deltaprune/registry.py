"""One registry for every kind of extension: a decorator, lazy folder discovery, entry points, "did you mean".

A folder of the package (`scores/`, `methods/`, ...) holds one file per entry. Nothing is imported until a name is asked
for; then the file of that name is imported first, and the whole folder only when the name is not found there. A
third-party package adds an entry through the entry-point group `deltaprune.<kind>s`.
"""

import importlib
import importlib.util
import pkgutil
import threading
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, cast

from deltaprune.errors import UserError, did_you_mean

T = TypeVar("T")
Entry = TypeVar("Entry")


class Registry(Generic[T]):
    """Names -> objects of one kind, found in one folder of the package and in the entry points of others.

    Args:
        kind: what an entry is called in messages and in the entry-point group, e.g. `"score"`.
        package: the folder to discover, e.g. `"deltaprune.scores"`.
        base: the class of which every entry is a subclass; None if entries are not classes of one kind.
    """

    def __init__(self, kind: str, package: str, base: type | None = None):
        self.kind = kind
        self.package = package
        self.base = base
        self._entries: dict[str, T] = {}
        self._broken: dict[str, Exception] = {}
        self._complete = False
        self._lock = threading.RLock()

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """Decorator: add the object below it under `name`.

        Raises:
            UserError: the name is taken, or the object is no subclass of `base`.
        """

        def add(entry: Entry) -> Entry:
            if self.base is not None and not (isinstance(entry, type) and issubclass(entry, self.base)):
                raise UserError(
                    f"{entry!r} cannot be the {self.kind} {name!r}: register a subclass of {self.base.__name__}."
                )
            if name not in self._entries:
                self._import_file_of(name)  # our own file of this name has the entry
            held = self._entries.get(name)
            if held is not None and _identity(held) != _identity(entry):
                raise UserError(
                    f"The {self.kind} {name!r} is registered twice, as {held!r} and {entry!r}: choose another name."
                )
            self._entries[name] = cast(Any, entry)
            return entry

        return add

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            self._import_file_of(name)
        if name not in self._entries:
            self._import_everything()
        if name in self._broken:
            why = f"{type(self._broken[name]).__name__}: {self._broken[name]}"
            raise UserError(
                f"The {self.kind} {name!r} comes from another package, which cannot be imported ({why}): update that "
                "package or uninstall it."
            ) from self._broken[name]
        if name not in self._entries:
            raise UserError(f"There is no {self.kind} {name!r}: {did_you_mean(name, self._entries)}.")
        return self._entries[name]

    def names(self) -> list[str]:
        """Every known name, sorted; imports the whole folder and all entry points, whose broken ones are left out."""
        self._import_everything()
        return sorted(self._entries)

    def _import_file_of(self, name: str) -> None:
        module = f"{self.package}.{name}"
        if name.isidentifier() and not name.startswith("_") and importlib.util.find_spec(module) is not None:
            importlib.import_module(module)

    def _import_everything(self) -> None:
        with self._lock:  # a second thread waits until the first has imported all
            if not self._complete:
                self._complete = True
                self._import_folder_and_entry_points()

    def _import_folder_and_entry_points(self) -> None:
        folder = importlib.import_module(self.package)
        for info in pkgutil.iter_modules(folder.__path__):
            if not info.name.startswith("_"):
                importlib.import_module(f"{self.package}.{info.name}")
        for point in entry_points(group=f"deltaprune.{self.kind}s"):
            if point.name in self._entries:
                continue
            try:
                self.register(point.name)(cast(Any, point.load()))
            except Exception as error:  # another package's module may raise anything; reported on access
                self._broken[point.name] = error


def _identity(entry: object) -> tuple[object, object]:
    return getattr(entry, "__module__", None), getattr(entry, "__qualname__", id(entry))


def find_class(name: str, *packages: str) -> type | None:
    """The class of this name that a file of these folders registers, or None."""
    for package in packages:
        registry: Registry[Any] = importlib.import_module(package).registry
        entries = (registry[entry] for entry in registry.names())
        found = next((entry for entry in entries if getattr(entry, "__name__", None) == name), None)
        if found is not None:
            return found
    return None
