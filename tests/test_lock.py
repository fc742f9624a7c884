"""`constraints.txt` is a lock: every direct requirement is pinned in it, by the command that CONTRIBUTING.md names.

That it can be installed is what `.ci/lock` tries, since it needs the package index.
"""

import tomllib
from collections import Counter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "constraints.txt").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = [Requirement(line.partition("#")[0]) for line in LOCK.splitlines() if line and not line.startswith("#")]
EXTRAS = PROJECT["optional-dependencies"].values()
DIRECT = sorted({*PROJECT["dependencies"], *(line for extra in EXTRAS for line in extra)})
PLATFORMS = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}


def pins(name: str, python: str, platform: str) -> list[Requirement]:
    """The pins of a package that hold there."""
    there = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": platform}
    there |= {"platform_system": PLATFORMS[platform], "platform_machine": "arm64" if platform == "darwin" else "x86_64"}
    named = [pin for pin in PINS if canonicalize_name(pin.name) == canonicalize_name(name)]
    return [pin for pin in named if pin.marker is None or pin.marker.evaluate(there)]


def version(pin: Requirement) -> Version:
    (specifier,) = pin.specifier
    assert specifier.operator == "==", pin
    assert not pin.extras, pin
    return Version(specifier.version)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_requirement_is_pinned_to_one_version_within_its_range(python: str, platform: str) -> None:
    for line in DIRECT:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"sys_platform": platform}):
            (pin,) = pins(requirement.name, python, platform)
            assert version(pin) in requirement.specifier, f"{line} is locked at {version(pin)}"


def test_no_package_has_two_pins_in_one_place() -> None:
    for python in ("3.11", "3.12", "3.13"):
        for platform in PLATFORMS:
            for name in {pin.name for pin in PINS}:
                assert len(pins(name, python, platform)) <= 1, name


def test_the_pin_of_torch_takes_either_build_and_linux_alone_gets_cuda() -> None:
    (torch,) = pins("torch", "3.12", "linux")
    assert torch.specifier.contains(Version(f"{version(torch)}+cpu"))
    linux_only = [pin.name for pin in PINS if pin.name.startswith(("nvidia-", "cuda-", "triton"))]
    assert len(linux_only) > 10
    assert not [name for name in linux_only if pins(name, "3.12", "darwin")]
    assert Counter(len(pins(name, "3.12", "linux")) for name in linux_only) == {1: len(linux_only)}


def test_the_command_is_the_one_that_contributing_names() -> None:
    (command,) = (line.removeprefix("#    ") for line in LOCK.splitlines() if line.startswith("#    uv "))
    assert f"\n{command}\n" in (ROOT / "CONTRIBUTING.md").read_text()


def test_what_rests_on_a_private_protocol_has_an_upper_bound() -> None:
    """transformers' `generate` hands its cache from step to step by names that it has changed before."""
    (transformers,) = (Requirement(line) for line in DIRECT if Requirement(line).name == "transformers")
    (pin,) = pins("transformers", "3.12", "linux")
    following = f"{version(pin).major}.{version(pin).minor + 1}"
    assert version(pin) in transformers.specifier
    assert Version(following) not in transformers.specifier
