"""What is handed out: a wheel and a source archive that say the same, whose page can be read outside the repository."""

import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE, RAW = (
    "https://github.com/deltaprune/deltaprune/blob/HEAD/",
    "https://raw.githubusercontent.com/deltaprune/deltaprune/HEAD/",
)
LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)]+)\)")


def build(source: Path, out: Path, *options: str) -> None:
    """By the build backend itself: nothing is fetched."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", out, *options]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    build(ROOT, out)
    assert sorted(path.suffix for path in out.iterdir()) == [".gz", ".whl"]
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as file:
        yield file


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(wheel.read(name))


def files(wheel: zipfile.ZipFile) -> set[str]:
    return {name for name in wheel.namelist() if ".dist-info/" not in name}


def kept() -> set[str]:
    """What git keeps, or would keep if it were added."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.splitlines() if (ROOT / name).is_file()}


def test_the_wheel_is_the_package_and_says_that_it_has_types(wheel: zipfile.ZipFile) -> None:
    assert files(wheel) == {name.removeprefix("src/") for name in kept() if name.startswith("src/")}
    assert "deltaprune/py.typed" in files(wheel)


def test_the_page_of_the_package_is_the_readme_with_addresses(metadata: Message) -> None:
    page = metadata.get_payload(decode=True).decode()
    assert page.replace(PAGE, "").replace(RAW, "") == (ROOT / "README.md").read_text()
    links = LINK.findall(page)
    assert len(links) >= 15
    for picture, target in links:
        assert target.startswith("https://"), target
        if target.startswith((PAGE, RAW)):
            assert target.startswith(RAW if picture else PAGE)
            assert (ROOT / target.removeprefix(PAGE).removeprefix(RAW)).exists(), target


def test_the_licence_travels(metadata: Message, built: Path, wheel: zipfile.ZipFile) -> None:
    text = (ROOT / "LICENSE").read_bytes()
    assert (metadata["License-Expression"], metadata.get_all("License-File")) == ("Apache-2.0", ["LICENSE"])
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/licenses/LICENSE"))
    assert wheel.read(name) == text
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        (member,) = (member for member in archive if Path(member.name).parts[1:] == ("LICENSE",))
        file = archive.extractfile(member)
        assert file is not None
        assert file.read() == text


def test_the_source_archive_gives_the_same_wheel(built: Path, wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    packed = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    assert packed - kept() == {"PKG-INFO"}
    build(source, tmp_path / "again", "-t", "wheel")
    with zipfile.ZipFile(next((tmp_path / "again").glob("*.whl"))) as again:
        assert files(again) == files(wheel)
        assert all(again.read(name) == wheel.read(name) for name in files(wheel))


def test_the_index_would_take_both(built: Path) -> None:
    command = [sys.executable, "-m", "twine", "--no-color", "check", "--strict", *built.iterdir()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout.count("PASSED")) == (0, 2), done.stdout + done.stderr
