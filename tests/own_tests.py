"""Which entries of a registry have no test of their own, so that nobody keeps a list of them."""

from pathlib import Path

from deltaprune.registry import Registry


def without_a_test(registry: Registry, folder: Path, known: set[str]) -> set[str]:
    """The names of our own entries that are neither in `known` nor the name of a test file, `folder/test_<name>.py`."""
    ours = {name for name in registry.names() if registry[name].__module__.startswith(f"{registry.package}.")}
    return {name for name in ours - known if not (folder / f"test_{name}.py").is_file()}
