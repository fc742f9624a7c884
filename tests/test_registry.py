"""Names are found lazily, mistakes are told, nothing is taken twice."""

import pytest

from deltaprune.errors import UserError
from deltaprune.registry import Registry


def folder(tmp_path, monkeypatch, **files: str) -> Registry:
    """A registry over a fresh package of these files."""
    name = f"room_{tmp_path.name.replace('-', '_')}"
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").write_text(
        f"from deltaprune.registry import Registry\nregistry = Registry('thing', {name!r})\n"
    )
    for file, body in files.items():
        (package / f"{file}.py").write_text(f"from {name} import registry\n{body}")
    monkeypatch.syspath_prepend(str(tmp_path))
    return __import__(name).registry


def test_only_the_file_of_the_name_is_imported(tmp_path, monkeypatch) -> None:
    things = folder(
        tmp_path, monkeypatch, one="registry.register('one')(object)", two="raise RuntimeError('imported too early')"
    )
    assert things["one"] is object


def test_a_name_is_found_in_any_file(tmp_path, monkeypatch) -> None:
    things = folder(tmp_path, monkeypatch, many="registry.register('a')(int)\nregistry.register('b')(str)")
    assert things["b"] is str
    assert things.names() == ["a", "b"]


def test_an_unknown_name_gets_the_nearest(tmp_path, monkeypatch) -> None:
    things = folder(tmp_path, monkeypatch, circle="registry.register('circle')(int)")
    with pytest.raises(UserError, match="no thing 'circel': did you mean 'circle'"):
        things["circel"]
    with pytest.raises(UserError, match="the known ones are circle"):
        things["zzzzzz"]


def test_a_name_is_taken_once(tmp_path, monkeypatch) -> None:
    things = folder(tmp_path, monkeypatch)
    things.register("x")(int)
    things.register("x")(int)
    with pytest.raises(ValueError, match="registered twice"):
        things.register("x")(str)
