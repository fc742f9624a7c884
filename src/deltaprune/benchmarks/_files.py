"""The official files, JSON and JSON lines, read so that every mistake in them names the file and the place.

Byte-order marks and Windows line ends are accepted.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from deltaprune.checks import check_local
from deltaprune.errors import UserError

Top = TypeVar("Top", dict[str, Any], list[Any])


class Entry(NamedTuple):
    """One entry of a file or of a hub dataset; its values are looked up by name and checked.

    Args:
        source: the file, for messages.
        place: which entry this is, for messages, such as "question 12".
        values: what the entry holds.
    """

    source: str
    place: str
    values: Mapping[str, Any]

    def text(self, key: str) -> str:
        """A string."""
        value = self._value(key)
        if not isinstance(value, str):
            raise self._wrong(key, "a string", value)
        return value

    def id(self, key: str) -> str:
        """A whole number or a string, as text."""
        value = self._value(key)
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise self._wrong(key, "a number or a string", value)
        return str(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """Strings, or objects that hold one under "answer" (as annotators' answers do); in the file's order."""
        value = self._value(key)
        if not isinstance(value, list | tuple):
            raise self._wrong(key, "a list of strings", value)
        held: list[Any] = [each.get("answer") if isinstance(each, dict) else each for each in value]
        if not all(type(each) is str for each in held):
            raise self._wrong(key, "a list of strings", value)
        return tuple(map(sys.intern, held))

    def answers(self, key: str = "answers") -> tuple[str, ...]:
        """What the annotators said, at least one of them."""
        answers = self.texts(key)
        if not answers:
            raise UserError(f"{self.source}, {self.place}, has no answers: take a split whose answers are published.")
        return answers

    def inner(self, key: str) -> "Entry":
        """An object within this one."""
        value = self._value(key)
        if not isinstance(value, Mapping):
            raise self._wrong(key, "an object", value)
        return Entry(self.source, self.place, value)

    def _value(self, key: str) -> Any:
        try:
            return self.values[key]
        except KeyError as error:
            raise UserError(f"{self.source}, {self.place}, has no {key!r}: download the file again.") from error

    def _wrong(self, key: str, wanted: str, value: object) -> UserError:
        return UserError(f"{self.source}, {self.place}: {key!r} is {wanted}, not {value!r:.60}; download it again.")


def read_json(file: Path, top: type[Top], shrink: Callable[[dict[str, Any]], Any] | None = None) -> Top:
    """The content of a JSON file.

    Args:
        file: what to read.
        top: the outermost type, `dict` or `list`.
        shrink: replaces each object while the file is read, so that a large file needs no more memory than its result;
            without it, keys that occur twice in one object are looked for.

    Raises:
        UserError: no such file, no UTF-8, no JSON, a key that occurs twice, or another outermost type.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise UserError(f"{file} has {twice!r} twice: download it again.")
        return values

    try:
        text = _read(file)
        content = json.loads(text, object_hook=shrink) if shrink else json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{file}, {where}, is no JSON ({error.msg}): it is damaged or cut short.") from error
    if not isinstance(content, top):
        names = {dict: "an object", list: "a list"}
        raise UserError(f"{file} holds {names.get(type(content), 'a value')}, not {names[top]}: it is another file.")
    return content


def listed(file: Path, held: object, name: str) -> Iterator[Entry]:
    """The entries of a list within a file, each called by its `question_id`, or its number where it has none.

    Args:
        file: for messages.
        held: what should be a list of objects.
        name: what it is called in the file, for messages.

    Raises:
        UserError: it is not a list, or one of its items is not an object.
    """
    if not isinstance(held, list):
        raise UserError(f"{file} has no list {name!r}: it is another file.")
    for number, values in enumerate(held, 1):
        if not isinstance(values, dict):
            raise UserError(f"{file}, number {number} of {name!r}, is not an object: download it again.")
        yield Entry(str(file), f"question {values.get('question_id', f'number {number}')}", values)


def read_json_lines(file: Path) -> Iterator[Entry]:
    """The objects of a JSON-lines file, one a line; blank lines are passed over.

    Raises:
        UserError: no such file, no UTF-8, or a line that is no JSON object.
    """
    for number, line in enumerate(_read(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{file}, line {number}, is no JSON ({error.msg}): it is damaged or cut short.") from error
        if not isinstance(values, dict):
            raise UserError(f"{file}, line {number}, is no JSON object: each line holds one question.")
        yield Entry(str(file), f"line {number}", values)


def _read(file: Path) -> str:
    """The text of a file, its line ends as \\n and without a byte-order mark."""
    check_local("The file", file)
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text (byte {error.start}): unpack or download it again.") from error
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): check the path and its permissions.") from error
