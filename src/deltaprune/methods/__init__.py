"""Pruning methods: one file, one idea each. Add a file here and `--method NAME:field=value` can use it."""

import re
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from deltaprune.errors import UserError, did_you_mean
from deltaprune.registry import Registry
from deltaprune.scores import as_score
from deltaprune.scores import registry as scores
from deltaprune.steps import Method, Score

registry: Registry[type[Method]] = Registry("method", "deltaprune.methods", Method)


def as_method(method: object) -> Method:
    """A method as it is, or the one that a text such as "dtp:keep=0.5" names.

    Raises:
        UserError: the text names none, or it is neither a method nor a text.
    """
    if isinstance(method, Method):
        return method
    if isinstance(method, str):
        return parse(method)
    if isinstance(method, type) and issubclass(method, Method):
        raise UserError(f"method={method.__name__} is the class of a method: give an object, {method.__name__}().")
    raise UserError(f"method={method!r} is not a method: give an object such as DTP(keep=0.5), or 'dtp:keep=0.5'.")


def parse(text: str) -> Method:
    """`"dtp:keep=0.5,early=3"` -> `DTP(keep=0.5, early=3)`; `;` works in place of `,`."""
    name, _, rest = text.strip().partition(":")
    _check_form(name.strip())
    found = registry[name.strip()]
    if not is_dataclass(found):
        raise UserError(f"{found.__name__} is not a dataclass: write @dataclass(frozen=True) above the method's class.")
    cls: Any = found
    known = {f.name: f for f in fields(cls)}
    values: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in rest.replace(";", ",").split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise UserError(f"Method {text!r}: {item!r} is not of the form field=value, such as keep=0.5.")
        if key not in known:
            raise UserError(f"Method {name!r} has no field {key!r}: {did_you_mean(key, known)}.")
        if key in values:
            raise UserError(f"Method {text!r} gives {key!r} twice: keep one of the two.")
        values[key] = _value(key, value)
    missing = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    for key in missing:
        if key not in values:
            raise UserError(f"Method {name!r} needs a value for {key!r}: {name}:{key}=VALUE.")
    try:
        return cls(**values)
    except TypeError as error:
        raise UserError(f"Method {text!r} has a value of the wrong kind: {error}.") from error


def _check_form(name: str) -> None:
    """Check that no fields are written into the name: "dtp,keep=0.5" and "DTP(keep=0.5)" are corrected."""
    parts = re.fullmatch(r"(\w+)[\s,;(]+(\w+\s*=.*?)\)?", name)
    if parts is not None and parts[1].lower() in registry.names():
        raise UserError(
            f"The method {name!r} is not of the form name:field=value: write {parts[1].lower()}:{parts[2]}."
        )


def _value(key: str, text: str) -> Any:
    if key == "score":
        return as_score(text)
    if text.lower() in ("none", "true", "false"):
        return {"none": None, "true": True, "false": False}[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def fields_of(cls: type) -> dict[str, str | None]:
    """A method's or a score's fields with their defaults as `parse` reads them; None where a value has to be given."""
    return {f.name: _default(f) for f in fields(cls) if f.init} if is_dataclass(cls) else {}


def _default(field: "Field[Any]") -> str | None:
    """A field's default as a text."""
    if field.default is MISSING and field.default_factory is MISSING:
        return None
    value = field.default if field.default_factory is MISSING else field.default_factory()
    if isinstance(value, Score):
        return next((name for name in scores.names() if scores[name] is type(value)), repr(value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
